"""Which records are sent with all their modules, where most are not: decided when one is over and its time is known.

No rank asks another. In training that exchanges gradients all ranks take as long as the slowest, and find alike.
"""

from __future__ import annotations

from otel_torch_modules import semconv
from otel_torch_modules._engine.slowness import Slowness
from otel_torch_modules._records import Kept, Record
from otel_torch_modules.keep import Keep
from otel_torch_modules.schedule import Schedule

_MOST_SERIES = 16  # a process that only serves has one for each root module


def has_modules(record: Record) -> bool:
    """Return whether there is anything to decide: an evaluation under a budget has modules in some of its forwards."""
    if record.kind == "step":
        return not record.phases_only
    return record.kind == "eval" and (not record.phases_only or record.stride is not None)


class Keeping:
    """Decides about each record in turn.

    Steps, evaluations, and in a process that only serves the forwards of each root module are series apart. An
    evaluation's time is that of one of its forwards: it may have any number.

    Args:
        keep: what is to be sent.
        schedule: by which steps are counted, so that all ranks count alike.
    """

    def __init__(self, keep: Keep, schedule: Schedule) -> None:
        self._keep = keep
        self._schedule = schedule
        self._series: dict[str, _Series] = {}  # the one used last comes last

    def decide(self, record: Record) -> Kept | None:
        """Return why `record`, which has its modules, is sent with them; None where it is not."""
        series = self._series_of(record)
        ordinal, series.count = series.count, series.count + 1
        if record.failed:
            return Kept(semconv.KEPT_FAILED)
        slowdown = series.slowness and series.slowness.of(_time(record))
        if record.requested:
            return Kept(semconv.KEPT_REQUESTED)
        if slowdown:
            return Kept(semconv.KEPT_SLOW, slowdown)
        if ordinal < self._keep.first:
            return Kept(semconv.KEPT_FIRST)
        if record.kind == "step" and type(record.index) is int:
            ordinal = self._schedule.recorded_before(record.index)
        if self._keep.every and ordinal % self._keep.every == 0:
            return Kept(semconv.KEPT_EVERY)
        return None

    def _series_of(self, record: Record) -> _Series:
        name = record.kind if record.site is None else record.site.fqn
        series = self._series.pop(name, None)
        if series is None:
            series = _Series(self._keep.slow)
            while len(self._series) >= _MOST_SERIES:
                del self._series[next(iter(self._series))]
        self._series[name] = series
        return series


class _Series:
    def __init__(self, slow: float | None) -> None:
        self.slowness = None if slow is None else Slowness(slow)
        self.count = 0


def _time(record: Record) -> float:
    return (record.end - record.start) / max(record.forwards, 1)
