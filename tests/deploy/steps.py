"""Training steps as jobs would send them, made by hand: the shape of the traces, without torch."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from otel_torch_modules import semconv

MS = 1_000_000
SCOPE = InstrumentationScope(semconv.SCOPE_NAME)
LABELS = {"GPT": "GPT", "Block": "h.{layer}", "Attn": "attn"}
FQNS = {"GPT": "GPT", "Block": "GPT.h.{layer}", "Attn": "GPT.h.{layer}.attn"}
_counter = itertools.count(1)


def new_id(bits: int) -> int:
    """Return an id that differs from all before, its bits spread as samplers expect of random ones."""
    return next(_counter) * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << bits)


class Step:
    """One training step of a GPT with `layers` blocks.

    It lasts `duration` milliseconds: a tenth is data wait, three tenths forward, five tenths backward,
    one tenth optimizer. `ranks` are the durations, in milliseconds, of the ranks of a distributed job,
    each with its own resource; without them it is the step of one process.
    """

    def __init__(
        self,
        start: int,
        duration: int,
        *,
        index: int = 0,
        layers: int = 2,
        ranks: Sequence[int] = (),
        service: str = "train",
        failed: bool = False,
    ) -> None:
        self.trace_id = new_id(128)
        self.spans: list[ReadableSpan] = []
        self._service = service
        self._layers = layers
        self._resource = self._process()
        root = self._add(
            semconv.STEP,
            semconv.PHASE_STEP,
            None,
            (start, start + duration * MS),
            status=StatusCode.ERROR if failed else StatusCode.UNSET,
            attributes={semconv.STEP_INDEX: index},
        )
        if not ranks:
            self._add_phases(root, start, duration)
        for rank, rank_duration in enumerate(ranks):
            self._resource = self._process() if rank else self._resource
            span = self._add(
                f"rank {rank}",
                "rank",
                root,
                (start, start + rank_duration * MS),
                attributes={"torch.distributed.rank": rank},
            )
            self._add_phases(span, start, rank_duration)

    def outline(self) -> list[str]:
        """Return the names as `StoredSpan.outline` does."""
        by_parent: dict[int | None, list[ReadableSpan]] = {}
        for span in self.spans:
            by_parent.setdefault(span.parent.span_id if span.parent else None, []).append(span)

        def lines(parent: int | None, indent: str) -> Iterator[str]:
            children = by_parent.get(parent, [])
            for span in sorted(
                children, key=lambda span: (span.start_time, -span.end_time, span.name)
            ):
                yield indent + span.name
                yield from lines(span.context.span_id, indent + "  ")

        return list(lines(None, ""))

    def _process(self) -> Resource:
        return Resource(
            {"service.name": self._service, "service.instance.id": f"{new_id(64):016x}"}
        )

    def _add_phases(self, parent: SpanContext, start: int, duration: int) -> None:
        tenth = duration * MS // 10
        forward = (start + tenth, start + 4 * tenth)
        backward = (start + 4 * tenth, start + 9 * tenth)
        optimizer = (start + 9 * tenth, start + 10 * tenth)
        self._add(semconv.DATA_WAIT, semconv.PHASE_DATA, parent, (start, start + tenth))
        calls = self._add_forward(parent, forward)
        backward_pass = self._add(semconv.BACKWARD_PASS, semconv.PHASE_BACKWARD, parent, backward)
        self._add_backward(backward_pass, backward, calls)
        attributes: dict[str, str | int | float] = {semconv.OPTIMIZER_CLASS: "AdamW"}
        self._add(
            "optimizer.step AdamW",
            semconv.PHASE_OPTIMIZER,
            parent,
            optimizer,
            attributes=attributes,
        )

    def _add_forward(
        self, parent: SpanContext, times: tuple[int, int]
    ) -> dict[tuple[str, int], SpanContext]:
        calls = {("GPT", 0): self._add_forward_call("GPT", 0, parent, times)}
        for layer in range(self._layers):
            share = part(times, layer, self._layers)
            block = self._add_forward_call("Block", layer, calls["GPT", 0], share)
            calls["Block", layer] = block
            calls["Attn", layer] = self._add_forward_call("Attn", layer, block, share)
        return calls

    def _add_backward(
        self,
        parent: SpanContext,
        times: tuple[int, int],
        calls: dict[tuple[str, int], SpanContext],
    ) -> None:
        top = self._add_backward_call("GPT", 0, parent, times, calls)
        for layer in reversed(range(self._layers)):
            share = part(times, self._layers - 1 - layer, self._layers)
            block = self._add_backward_call("Block", layer, top, share, calls)
            self._add_backward_call("Attn", layer, block, share, calls)

    def _add_forward_call(
        self, class_name: str, layer: int, parent: SpanContext, times: tuple[int, int]
    ) -> SpanContext:
        return self._add(
            semconv.FORWARD_PREFIX + LABELS[class_name].format(layer=layer),
            semconv.PHASE_FORWARD,
            parent,
            times,
            kind=SpanKind.PRODUCER,
            attributes=module(class_name, layer, times),
        )

    def _add_backward_call(
        self,
        class_name: str,
        layer: int,
        parent: SpanContext,
        times: tuple[int, int],
        calls: dict[tuple[str, int], SpanContext],
    ) -> SpanContext:
        return self._add(
            semconv.BACKWARD_PREFIX + LABELS[class_name].format(layer=layer),
            semconv.PHASE_BACKWARD,
            parent,
            times,
            kind=SpanKind.CONSUMER,
            links=[Link(calls[class_name, layer])],
            attributes=module(class_name, layer, times),
        )

    def _add(
        self,
        name: str,
        phase: str,
        parent: SpanContext | None,
        times: tuple[int, int],
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        links: Sequence[Link] = (),
        status: StatusCode = StatusCode.UNSET,
        attributes: Mapping[str, str | int | float] | None = None,
    ) -> SpanContext:
        context = SpanContext(self.trace_id, new_id(64), False, TraceFlags(TraceFlags.SAMPLED))
        span = ReadableSpan(
            name,
            context,
            parent,
            self._resource,
            attributes={semconv.PHASE: phase, **(attributes or {})},
            links=links,
            kind=kind,
            status=Status(status),
            start_time=times[0],
            end_time=times[1],
            instrumentation_scope=SCOPE,
        )
        self.spans.append(span)
        return context


def part(times: tuple[int, int], index: int, parts: int) -> tuple[int, int]:
    """Return the times of part `index` where a stretch of time is split into equal parts."""
    width = (times[1] - times[0]) // parts
    return times[0] + index * width, times[0] + (index + 1) * width


def module(class_name: str, layer: int, times: tuple[int, int]) -> dict[str, str | int | float]:
    """Return what a module's span says: the attention fills the block, and blocks the model."""
    return {
        semconv.MODULE_FQN: FQNS[class_name].format(layer=layer),
        semconv.MODULE_CLASS: class_name,
        semconv.SELF_TIME: (times[1] - times[0]) / 1e9 if class_name == "Attn" else 0.0,
    }


def steps_until_now(service: str, durations: Sequence[int], **shape: Any) -> list[Step]:
    """Return steps that last `durations` milliseconds, one after the other, the last one over by now."""
    start = time.time_ns() - sum(durations) * MS
    steps = []
    for index, duration in enumerate(durations):
        steps.append(Step(start, duration, index=index, service=service, **shape))
        start += duration * MS
    return steps


def span_count(steps: Iterable[Step]) -> int:
    """Return how many spans these steps have in all."""
    return sum(len(step.spans) for step in steps)


def exporter_to(endpoint: str) -> OTLPSpanExporter:
    return OTLPSpanExporter(endpoint=endpoint, insecure=True)


def send(exporter: SpanExporter, steps: Iterable[Step]) -> None:
    """Send each step in one request, and see that it was taken."""
    for step in steps:
        assert exporter.export(step.spans) is SpanExportResult.SUCCESS
