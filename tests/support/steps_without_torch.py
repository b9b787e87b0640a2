"""A stand-in for training, run as a process of its own: it emits steps without torch."""

from __future__ import annotations

import time
from typing import Any

from opentelemetry import trace

from otel_torch_modules._emission import step_metrics
from otel_torch_modules._emission.emission import Emission
from otel_torch_modules._engine.deliveries import Deliveries
from otel_torch_modules._engine.engine import EXIT_TIMEOUT_S, Engine
from otel_torch_modules._job.identity import JobIdentity
from otel_torch_modules._job.starter import JobContext
from otel_torch_modules._records import Record
from otel_torch_modules._spans.span import Span, Trace
from otel_torch_modules.config import Config


class NoCalls:
    """An `OpenSpan` of a program in which no module is ever called."""

    def span_id(self, record: Record) -> int:
        return record.span_id

    def note(self, record: Record, method: str, arguments: tuple[Any, ...]) -> None:
        pass


def assemble(record: Record) -> Span:
    shared = Trace(
        record.trace_id, record.clock_offset, record.trace_flags, record.trace_state, record.parent
    )
    root = Span(shared, None, f"step {record.index}", "step", 0, record.start, record.end or 0, {})
    root.span_id = record.span_id
    for number in range(record.micro_batches):
        Span(shared, root, f"span {number}", "forward", 0, record.start, record.start, {})
    return root


class Training:
    """Steps and the way that they go, without recording; the last step is held back until the end."""

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        *,
        exit_timeout_s: float = EXIT_TIMEOUT_S,
    ) -> None:
        self.held: Record | None = None
        self._deliveries = Deliveries()
        self._emission = Emission(
            open_span=NoCalls(),
            identity=JobIdentity(Config(), {}, lambda: None),
            job_context=JobContext({}),
            deliveries=self._deliveries,
            tracer_provider=tracer_provider,
            on_found=lambda: self._engine.start(),
        )
        self._engine = Engine(
            self._emission,
            self._deliveries,
            handle=self._handle,
            hand_over=lambda: None,
            look=lambda: None,
            finish=self.hand_over,
            exit_timeout_s=exit_timeout_s,
        )
        self.flush = self._engine.worker.flush
        step_metrics.watch(self._engine.worker)

    def stop(self, timeout_s: float) -> bool:
        in_time = self._engine.stop(timeout_s)
        step_metrics.unwatch(self._engine.worker)
        return in_time

    def _handle(self, record: Record) -> None:
        with self._deliveries.assembling(record):
            context, record.context = record.context, None
            self._emission.context.settle(record)
            tree = assemble(record)
            sent = self._emission.emit(tree, context)
            self._emission.measure(record, tree, sent=sent)

    def hand_over(self) -> None:
        record, self.held = self.held, None
        if record is not None:
            self._engine.worker.put(record)

    def step(self, index: int, spans: int = 0) -> bool:
        """Make one step with `spans` spans below it; return whether it is recorded."""
        self.hand_over()
        now = time.perf_counter_ns()
        record = Record("step", index, now, time.time_ns() - now, micro_batches=spans)
        recorded = self._emission.context.open(record)
        if recorded:
            self._emission.context.attach(record)
            self._emission.context.detach(record)
            record.end = time.perf_counter_ns()
            self.held = record
        return recorded
