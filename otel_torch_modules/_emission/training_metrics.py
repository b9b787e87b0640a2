"""Steps, phases and modules as metrics, of every step that there was, whatever became of its spans.

All is said on the worker's thread. A histogram's entry costs about 10 µs there, for a model of 50 kinds of modules a
millisecond a step: so their own times are left out of steps that come too fast for that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from time import perf_counter_ns, thread_time_ns
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from otel_torch_modules import semconv
from otel_torch_modules._engine import fork
from otel_torch_modules._records import Record
from otel_torch_modules._spans.figures import Figures, Kind

# Four and ten boundaries a decade: from 1 ms to 100 s for steps, from 10 µs to 10 s for what is in them.
_STEP_BUCKETS = [
    round(mantissa * 10.0**decade, 9)
    for decade in range(-3, 2)
    for mantissa in (1, 1.25, 1.6, 2, 2.5, 3.15, 4, 5, 6.3, 8)
] + [100.0]
_PHASE_BUCKETS = [
    round(mantissa * 10.0**decade, 9) for decade in range(-4, 2) for mantissa in (1, 1.8, 3.2, 5.6)
] + [100.0]
_MODULE_BUCKETS = [
    round(mantissa * 10.0**decade, 9) for decade in range(-5, 1) for mantissa in (1, 3.2)
] + [10.0]

MOST_PATTERNS = 50

_SHARE = 0.01  # of the time of a processor that the entries of modules may take

_NO_EXEMPLAR = Context()


class TrainingMetrics:
    """The instruments of one meter.

    Args:
        meter: makes the instruments.
        clock: nanoseconds, as records have them.
        cpu: nanoseconds of processor time of this thread.
    """

    def __init__(
        self,
        meter: Meter,
        *,
        clock: Callable[[], int] = perf_counter_ns,
        cpu: Callable[[], int] = thread_time_ns,
    ) -> None:
        self._clock = clock
        self._cpu = cpu
        self._attributes: dict[Kind, Mapping[str, str]] = {}
        self._patterns: set[str] = set()
        self._due = 0  # when modules may be told of again
        self.after_fork_in_child()
        fork.watch(self)
        seconds = semconv.UNIT_SECONDS
        self._steps = meter.create_counter(
            semconv.METRIC_STEPS, semconv.UNIT_STEP, "Training steps that have ended."
        )
        self._step_duration = meter.create_histogram(
            semconv.METRIC_STEP_DURATION,
            seconds,
            "How long training steps took.",
            explicit_bucket_boundaries_advisory=_STEP_BUCKETS,
        )
        self._phase_duration = meter.create_histogram(
            semconv.METRIC_PHASE_DURATION,
            seconds,
            "How long the phases of a step took: all of one kind in a step together.",
            explicit_bucket_boundaries_advisory=_PHASE_BUCKETS,
        )
        self._self_time = meter.create_histogram(
            semconv.METRIC_SELF_TIME,
            seconds,
            "Time in modules without those that they call: all of one pattern in a step together.",
            explicit_bucket_boundaries_advisory=_MODULE_BUCKETS,
        )
        meter.create_observable_gauge(
            semconv.METRIC_STEP_INDEX,
            [lambda _: self._observe(self._index)],
            semconv.UNIT_STEP,
            "The number of the training step that has ended last.",
        )
        meter.create_observable_gauge(
            semconv.METRIC_STEP_AGE,
            [self._observe_age],
            seconds,
            "How long ago the last training step ended.",
        )

    def after_fork_in_child(self) -> None:
        """Know of no step: those before were the parent's."""
        self._index: int | None = None
        self._end: int | None = None  # of the last step

    def step_ended(self, record: Record, figures: Figures, *, sent: bool) -> None:
        """Tell of a step.

        Args:
            record: the step.
            figures: what it came to.
            sent: whether its spans went out, modules and all: then it is an example of what it came to.
        """
        context = _exemplar(record) if sent else _NO_EXEMPLAR
        self._tell_of_step(record, figures.duration, context)
        for phase, duration in figures.phases.items():
            self._phase_duration.record(duration, {semconv.PHASE: phase}, context)
        if figures.modules:
            self._tell_if_due(lambda: figures.modules, context)

    def modules_left_out(self, modules: Callable[[], Mapping[Kind, float]]) -> None:
        """Tell of the modules of a step that are not sent.

        Args:
            modules: finds their own times (s); called where there is time for it.
        """
        self._tell_if_due(modules, _NO_EXEMPLAR)

    def left_out_step_ended(self, record: Record) -> None:
        """Tell of a step that was not recorded: when it began and ended is all that is known."""
        self._tell_of_step(record, (record.end - record.start) / 1e9, _NO_EXEMPLAR)

    def _tell_of_step(self, record: Record, duration: float, context: Context) -> None:
        attributes: dict[str, Any] = {}
        if record.failed:
            attributes[semconv.ERROR_TYPE] = semconv.ERROR_OTHER
        if record.skipped:
            attributes[semconv.STEP_SKIPPED] = True
        self._steps.add(1, attributes)
        self._step_duration.record(max(duration, 0.0), attributes, context)
        if self._end is None or record.end >= self._end:  # those not recorded come later
            self._index = record.index if type(record.index) is int else None
            self._end = record.end

    def _tell_if_due(self, modules: Callable[[], Mapping[Kind, float]], context: Context) -> None:
        if self._clock() >= self._due:
            before = self._cpu()
            self._tell_of_modules(modules(), context)
            self._due = self._clock() + int((self._cpu() - before) / _SHARE)

    def _tell_of_modules(self, modules: Mapping[Kind, float], context: Context) -> None:
        self._admit(modules)
        others: dict[Kind, float] = {}
        for (pattern, phase), seconds in modules.items():
            if pattern in self._patterns:
                self._self_time.record(seconds, self._attributes_of((pattern, phase)), context)
            else:
                kind = semconv.OTHER_PATTERNS, phase
                others[kind] = others.get(kind, 0.0) + seconds
        for kind, seconds in others.items():
            self._self_time.record(seconds, self._attributes_of(kind), context)

    def _admit(self, modules: Mapping[Kind, float]) -> None:
        """Let patterns have series of their own while there is room, those first that take longest."""
        room = MOST_PATTERNS - len(self._patterns)
        if not room or all(pattern in self._patterns for pattern, _ in modules):
            return
        seconds: dict[str, float] = {}
        for (pattern, _), own in modules.items():
            if pattern not in self._patterns:
                seconds[pattern] = seconds.get(pattern, 0.0) + own
        self._patterns.update(sorted(seconds, key=seconds.__getitem__, reverse=True)[:room])

    def _attributes_of(self, kind: Kind) -> Mapping[str, str]:
        known = self._attributes.get(kind)
        if known is None:
            pattern, phase = kind
            known = {semconv.MODULE_PATTERN: pattern, semconv.PHASE: phase}
            self._attributes[kind] = known
        return known

    def _observe_age(self, _: CallbackOptions) -> Iterable[Observation]:
        end = self._end
        return self._observe(None if end is None else max(0, self._clock() - end) / 1e9)

    def _observe(self, value: float | None) -> Iterable[Observation]:
        return [] if value is None else [Observation(value)]


def _exemplar(record: Record) -> Context:
    """Return a context whose span is that of `record`: a reader of the metric finds the trace by it."""
    span = SpanContext(record.trace_id, record.span_id, False, TraceFlags(TraceFlags.SAMPLED))
    return trace.set_span_in_context(NonRecordingSpan(span), _NO_EXEMPLAR)
