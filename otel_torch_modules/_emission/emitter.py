"""Span tree -> finished spans -> the span processors of a tracer provider.

Nothing here goes through ``tracer.start_span`` where the provider is the SDK's: the spans are over, their ids are
known, and the sampler was asked once for the whole record.

The root comes last, as where a program ends spans: what a process that is killed has sent of a step is then without
the step's own span, and does not pass for the whole.

Where a provider of ours does no more than export by OTLP, spans of ours are encoded here and go past its processors, at
a small part of the cost; the program's own spans still go through them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.metadata import version

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Tracer
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import TraceFlags

from otel_torch_modules import semconv
from otel_torch_modules._emission import api_spans, sampling, sdk
from otel_torch_modules._emission.clocks import monotonic
from otel_torch_modules._emission.ids import (
    UrandomIdGenerator,
    chosen_generator,
    generate_span_ids,
)
from otel_torch_modules._emission.missing_provider import MissingProvider
from otel_torch_modules._emission.otlp.encoder import SpanEncoder
from otel_torch_modules._emission.otlp.gathering import Gathering
from otel_torch_modules._emission.otlp.outbox import Outbox, answering_first
from otel_torch_modules._emission.otlp.request_exporter import RequestExporter
from otel_torch_modules._emission.provider import OwnTracerProvider
from otel_torch_modules._emission.record_spans import RecordSpans, context_with_parent
from otel_torch_modules._emission.services import ONE
from otel_torch_modules._emission.through_processors import ThroughProcessors
from otel_torch_modules._emission.tracers import tracer_of
from otel_torch_modules._engine import fork
from otel_torch_modules._engine.deliveries import Deliveries
from otel_torch_modules._job.starter import JobContext
from otel_torch_modules._log import report, warn
from otel_torch_modules._spans.columns import SpanColumns
from otel_torch_modules._spans.span import Span

_LOGGER = logging.getLogger(__name__)


class Emitter:
    """Sends span trees.

    Args:
        resolve: returns the tracer provider, the same one each time.
        job: what started the job.
        deliveries: is told what became of records whose spans are encoded here.
        clock: seconds; tests hand in their own.
    """

    def __init__(
        self,
        resolve: Callable[[], trace.TracerProvider],
        job: JobContext,
        *,
        deliveries: Deliveries | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._deliveries = deliveries or Deliveries()
        self._resolve = resolve
        self._job = job
        self._clock = clock
        self._ids = UrandomIdGenerator()
        self._scope = InstrumentationScope(semconv.SCOPE_NAME, version("otel-torch-modules"), "")
        self._known_tracer: tuple[object, trace.Tracer] | None = None
        self._warned = False
        self._processors = ThroughProcessors(resolve, clock)
        self._outboxes: tuple[Outbox, ...] = ()
        self._services = ONE
        self._gathering: Gathering | None = None
        self._lost = False
        fork.watch(self)

    def after_fork_in_child(self) -> None:
        """Forget what was gathered: the parent sends it."""
        self._gathering = None

    def emit(self, tree: Span | SpanColumns, context: Context | None = None) -> bool:
        """Send `tree`; give an id to each span that has none yet. Return whether it goes out by the ids that it has.

        Args:
            tree: of a record.
            context: that was current when the record opened; None for one that holds its parent and nothing else.
        """
        if self._gathering is not None:  # what is known of the first of these is true of all
            if isinstance(tree, SpanColumns) and self._gathering.takes(tree):
                self._job.link(tree.heads)
                self._gathering.add(tree)
                return True
            self._send_gathered()
        root = tree if isinstance(tree, Span) else tree.root
        provider = self._resolve()
        if isinstance(provider, MissingProvider):
            self._deliveries.spoil(provider.error)
            return False
        tracer = self._tracer_of(provider)
        if isinstance(tracer, trace.NoOpTracer):  # switched off on purpose
            return False
        if not isinstance(tracer, Tracer):
            self._send_by_api(tree, tracer, context)
            self._deliveries.handed_on()
            return False
        if not sdk.is_enabled(tracer):
            return False
        processors = sdk.span_processors(tracer.span_processor)
        if not processors:
            self._warn("The tracer provider has no span processor: no spans are sent")
            return False
        if sdk.are_shut_down(processors):
            self._warn(
                "The program has shut its tracer provider down: steps that are not sent yet, and later ones, are lost"
            )
            self._deliveries.spoil(semconv.ALREADY_SHUTDOWN)
            return False
        if context is None:
            context = context_with_parent(root)
        decision = self._decide(tracer, root, context)
        if decision is None:
            return False
        is_sampled = bool(decision.trace_flags & TraceFlags.SAMPLED)
        self._job.link(_heads(tree))
        exporters: tuple[RequestExporter, ...] = ()
        self._services = ONE
        if isinstance(provider, OwnTracerProvider):
            exporters = provider.request_exporters(processors)
            self._services = provider.services
        outboxes = self._outboxes_to(exporters, tracer)
        if outboxes and not is_sampled:  # it is recorded for processors, of which there is none
            return False
        if (
            isinstance(tree, SpanColumns)
            and outboxes
            and outboxes[0].encoder.has_templates(decision)
        ):
            self._gather(tree, decision, tracer)
            return is_sampled
        spans = list((tree if isinstance(tree, Span) else tree.tree()).walk())
        self._assign_ids(spans, tracer)
        if isinstance(tree, SpanColumns):
            tree.take_ids(spans)
        batch = RecordSpans(spans, decision, tracer, self._scope, self._services)
        if outboxes:
            for outbox in outboxes:
                outbox.put(batch)
            return is_sampled
        if sdk.needs_started_spans(processors):
            self._processors.send_started(batch, context)
        else:
            self._processors.send_finished(batch, context)
        if is_sampled:
            self._deliveries.handed_on()
        return is_sampled

    def _send_by_api(
        self, tree: Span | SpanColumns, tracer: trace.Tracer, context: Context | None
    ) -> None:
        root = tree if isinstance(tree, Span) else tree.tree()
        self._job.link(_heads(root))
        if context is None:
            context = context_with_parent(root)
        api_spans.send(root, tracer, context, self._processors.make_room)

    def _gather(self, columns: SpanColumns, decision: sampling.Decision, tracer: Tracer) -> None:
        services = self._services
        self._gathering = Gathering(
            columns.layout,
            decision.trace_flags,
            self._outboxes,
            self._deliveries,
            chosen_generator(tracer.id_generator, self._ids),
            lambda spans: RecordSpans(spans, decision, tracer, self._scope, services),
        )
        self._gathering.add(columns)
        if self._gathering.is_full:
            self._send_gathered()

    def _send_gathered(self) -> None:
        """Encode what was gathered. An error of one record costs no other, and none that is emitted now."""
        gathering, self._gathering = self._gathering, None
        error = None if gathering is None else gathering.send()
        if error is not None and not self._lost:
            self._lost = True
            report(_LOGGER, "Spans were lost, and further ones are only counted", error=error)

    @property
    def ready(self) -> bool:
        """Whether it takes more than it has: there is an exporter that is not full."""
        return not self._outboxes or any(outbox.ready for outbox in self._outboxes)

    def idle(self) -> None:
        """Send what has waited for a while; called often, with records coming or not."""
        self._send_gathered()
        for outbox in answering_first(self._outboxes):
            outbox.idle()
        self._processors.idle()

    def flush(self) -> bool:
        """Try to send all that there is; return False where some of it has to be tried again."""
        if self._known_tracer is None:  # nothing was sent: at exit no provider can be made for that
            return True
        self._send_gathered()
        answered = [outbox.send() for outbox in answering_first(self._outboxes)]
        self._processors.flush()
        return all(answered)

    def _outboxes_to(
        self, exporters: tuple[RequestExporter, ...], tracer: Tracer
    ) -> tuple[Outbox, ...]:
        known = tuple([outbox.exporter for outbox in self._outboxes])
        if exporters != known or (
            known and self._outboxes[0].encoder.resource is not tracer.resource
        ):
            for outbox in self._outboxes:
                outbox.send()
            maker = object()
            self._outboxes = tuple(
                [
                    Outbox(
                        exporter,
                        SpanEncoder(tracer, self._scope, exporter.language, maker, self._services),
                        self._deliveries,
                        self._clock,
                    )
                    for exporter in exporters
                ]
            )
        return self._outboxes

    def _tracer_of(self, provider: trace.TracerProvider) -> trace.Tracer:
        # Making one takes as long as a hundred spans. It has the resource that its provider had at that time.
        source = provider, getattr(provider, "resource", None)
        if self._known_tracer is None or self._known_tracer[0] != source:
            tracer = tracer_of(provider, self._scope.name, self._scope.version)
            self._known_tracer = source, tracer
        return self._known_tracer[1]

    def _warn(self, message: str) -> None:
        if not self._warned:
            self._warned = True
            warn(_LOGGER, message)

    def _decide(self, tracer: Tracer, root: Span, context: Context) -> sampling.Decision | None:
        """Return what was decided when the record opened, or decide now: there was no provider yet."""
        opened = root.trace
        if opened.trace_flags & TraceFlags.SAMPLED:
            return sampling.Decision(opened.trace_flags, opened.trace_state, opened.attributes)
        return sampling.decide(tracer, opened.trace_id, root.name, root.phase, context)

    def _assign_ids(self, spans: list[Span], tracer: Tracer) -> None:
        # A link may go to a record that is sent later, or never: its span needs an id all the same.
        nameless = [span for span in spans if not span.span_id]
        nameless += {span.link: None for span in spans if span.link and not span.link.span_id}
        generator = chosen_generator(tracer.id_generator, self._ids)
        new_ids = iter(generate_span_ids(generator, len(nameless)))
        for span in nameless:
            if not span.span_id:
                span.span_id = next(new_ids)


def _heads(tree: Span | SpanColumns) -> list[Span]:
    """Return what is above all that happened: the record's own span, and the rank's where several share it."""
    if isinstance(tree, SpanColumns):
        return tree.heads
    return [tree, *(span for span in tree.children[:1] if span.phase == semconv.PHASE_RANK)]
