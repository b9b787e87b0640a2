"""OTLP from spans of ours, at a twentieth of what the standard encoder costs.

The spans of one place in the program differ in nothing but ids and times. So the standard encoder encodes one of them,
with ids and times that occur nowhere else, and what lies between these is kept: it is the same in all others. Whatever
the standard encoder would write is thereby what is written here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Tracer
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otel_torch_modules._emission.limits import Limits
from otel_torch_modules._emission.otlp.language import Language, Pieces, cut
from otel_torch_modules._emission.otlp.request_exporter import EncodedRequest
from otel_torch_modules._emission.otlp.specimen import Specimen
from otel_torch_modules._emission.otlp.steps import StepEncoder
from otel_torch_modules._emission.record_spans import RecordSpans
from otel_torch_modules._emission.sampling import Decision
from otel_torch_modules._spans.layout import Prototype
from otel_torch_modules._spans.span import SharedAttributes, Span, Trace

_NO_RESOURCE = Resource.get_empty()


class Template(NamedTuple):
    """A span but for its ids and times: the six pieces around them, and the two that come where there is a link."""

    pieces: Pieces
    link_pieces: Pieces


class _Templates(dict[tuple[str, int, bool, int, str], Template]):
    """By name, kind, link, flags and language, those of the spans with the attributes that they are kept on."""

    __slots__ = ("maker",)

    def __init__(self, maker: object) -> None:
        super().__init__()
        self.maker = maker  # what another encoder made is of no use


class SpanEncoder:
    """Encodes the spans of one resource and scope.

    Args:
        tracer: whose spans they are.
        scope: their instrumentation scope.
        language: in which they are written.
        maker: what templates are kept for, the same for encoders that are used side by side.
    """

    def __init__(
        self,
        tracer: Tracer,
        scope: InstrumentationScope,
        language: Language,
        maker: object = None,
    ) -> None:
        self.language = language
        self.resource = tracer.resource
        self._tracer = tracer
        self._limits = Limits.of(tracer)
        self._scope = scope
        self._maker = maker or object()  # not the encoder: what is encoded may outlive it
        self._steps = StepEncoder(tracer, scope, language, self._encode_anew)
        span = Span(Trace(1, 0, 0, None, None), None, "", "", 0, 1, 1, {})
        record = RecordSpans([span], Decision(0, None), tracer, scope)
        self._resource_part, self._scope_part = language.around(record.finished(span))

    def has_templates(self, decision: Decision) -> bool:
        """Return False where a sampler says something of its own, which may be something else in each record."""
        return not decision.trace_state and not decision.attributes and self._limits.leave_links

    def encode(self, record: RecordSpans, spans: Iterable[Span]) -> bytes:
        """Return `spans`, all of `record` and none of them the program's doing, for `request`."""
        if not self.has_templates(record.decision):
            return self._encode_anew(record, spans)
        rest: list[Span] = []
        encoded = self._encode_known(record, spans, rest)
        others: list[Span] = []
        for span in rest:
            step = self._steps.encode(record, span)
            if step is None:
                others.append(span)
            else:
                encoded.append(step)
        if others:
            encoded.append(self._encode_anew(record, others))
        return self.language.between.join(encoded)

    def _encode_known(
        self, record: RecordSpans, spans: Iterable[Span], rest: list[Span]
    ) -> list[bytes]:
        """Return the spans that there are templates for, and put the others into `rest`."""
        trace = record.trace
        known: list[Span] = []
        parents: list[int] = []
        linked: list[int] = []
        for span in spans:
            parent, link = span.parent, span.link
            if (
                type(span.attributes) is not SharedAttributes
                or parent is None
                or parent.remote
                or span.error is not None
                or span.values
                or span.points
                or (link is not None and (link.trace is not trace or link.remote))
            ):
                rest.append(span)
                continue
            known.append(span)
            parents.append(parent.span_id)
            if link is not None:
                linked.append(link.span_id)
        language, offset = self.language, trace.clock_offset
        trace_id = language.trace_id(trace.trace_id)
        linked_ids = iter(language.span_ids(linked))
        encoded: list[bytes] = []
        for span, own_id, parent_id, start, end in zip(
            known,
            language.span_ids([span.span_id for span in known]),
            language.span_ids(parents),
            language.times([span.start + offset for span in known]),
            language.times([span.end + offset for span in known]),
            strict=True,
        ):
            like = Prototype(span.name, span.phase, span.kind, span.attributes)
            template = self.template(like, span.link is not None, record.decision.trace_flags)
            first, to_id, to_parent, to_start, to_end, after = template.pieces
            # fmt: off
            written = [first, trace_id, to_id, own_id, to_parent, parent_id,
                       to_start, start, to_end, end, after]
            # fmt: on
            if span.link is not None:
                to_linked, last = template.link_pieces
                written += trace_id, to_linked, next(linked_ids), last
            encoded.append(b"".join(written))
        return encoded

    def request(self, encoded: Iterable[bytes], span_count: int) -> EncodedRequest:
        """Return the request that sends what `encode` returned."""
        data = self.language.request(self._resource_part, self._scope_part, encoded)
        return EncodedRequest(data, span_count)

    def template(self, like: Prototype, linked: bool, flags: int) -> Template:
        """Return what all spans have that are `like`, with a link to one of the same trace or without one.

        What was made for attributes that belong to one place only is not kept.
        """
        if type(like.attributes) is not SharedAttributes:
            return self._make_template(like, linked, flags)
        templates = self._templates(like.attributes)
        key = (like.name, like.kind, linked, flags, self.language.name)
        template = templates.get(key)
        if template is None:
            template = templates[key] = self._make_template(like, linked, flags)
        return template

    def _templates(self, attributes: SharedAttributes) -> _Templates:
        kept: _Templates | None = attributes.encoded
        if kept is None or kept.maker is not self._maker:
            kept = attributes.encoded = _Templates(self._maker)
        return kept

    def _make_template(self, like: Prototype, linked: bool, flags: int) -> Template:
        specimen = Specimen(like)
        if linked:
            specimen.add_link()
        record = RecordSpans([specimen.root], Decision(flags, None), self._tracer, self._scope)
        encoded = self._encode_anew(record, [specimen.span])
        pieces = cut(encoded, specimen.varies(self.language))
        return Template(pieces[:6], pieces[6:])

    def _encode_anew(self, record: RecordSpans, spans: Iterable[Span]) -> bytes:
        # Without a resource: the encoder would encode it each time, at twice the cost of a span.
        return self.language.encode([record.finished(span, _NO_RESOURCE) for span in spans])
