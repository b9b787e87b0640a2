"""Two runs, or two parts of one, step against step: what became slower, by how much, and how sure that is."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from math import hypot, isqrt
from random import Random
from statistics import median
from typing import Any, NamedTuple

from otel_torch_modules._diagnosis.device_times import ToldBy
from otel_torch_modules._diagnosis.places import TimedPlace
from otel_torch_modules._diagnosis.series import Series
from otel_torch_modules._diagnosis.words import digits, ms
from otel_torch_modules._grammar import counted

_RESAMPLES = 1000
_MOST_DRAWN = 1_000_000  # steps in all resamples: of long runs there are fewer
_LEAST_STEPS = (
    6  # of each: of fewer not even the least and the greatest hold the median in 95 of 100 cases
)
_SURE = 3.0  # standard errors: of a hundred places none changes by chance
_LEAST_SHARE = 0.005  # of the step: a change that is smaller is not told


class Change(NamedTuple):
    """A place whose own time changed. Times are ms a step; `share` is of the whole difference."""

    place: TimedPlace
    a_ms: float
    b_ms: float
    share: float

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "phase": self.place.phase,
            "place": self.place.name,
            "class": self.place.module_class,
            "a_ms": round(self.a_ms, 4),
            "b_ms": round(self.b_ms, 4),
            "share": round(self.share, 4),
        }


class Comparison(NamedTuple):
    """What B is beside A. `relative` is 0.05 where B takes 5 % longer; the interval holds 95 %.

    Of too few steps there is no interval, and nothing is beyond noise.
    """

    steps: int  # of the shorter one
    a_ms: float
    b_ms: float
    relative: float
    interval: tuple[float, float] | None
    changes: list[Change]  # beyond noise, largest first
    new: list[Change]
    gone: list[Change]
    told_by: ToldBy = ToldBy.PROGRAM  # times of steps and places

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        low, high = self.interval or (None, None)
        numbers = {
            name: None if value is None else round(value, 5)
            for name, value in (
                ("a_ms", self.a_ms),
                ("b_ms", self.b_ms),
                ("relative", self.relative),
                ("low", low),
                ("high", high),
            )
        }
        lists = {
            name: [change.as_json() for change in getattr(self, name)]
            for name in ("changes", "new", "gone")
        }
        return {"step": numbers, **lists, "told_by": self.told_by.name.lower()}

    @property
    def differs(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)

    def is_slower_than(self, share: float) -> bool:
        """Return whether the whole interval lies above a share."""
        return self.interval is not None and self.interval[0] > share

    @property
    def sentence(self) -> str:
        """What is to be said first."""
        times = f"{digits(self.a_ms)} and {digits(self.b_ms)} ms a step"
        if self.interval is None:
            return (
                f"{counted(self.steps, 'step')} can show no difference, {_LEAST_STEPS} of each might: {times}, warm-up "
                "left out."
            )
        if not self.differs:
            low, high = self.interval
            return (
                f"No difference that {counted(self.steps, 'step')} can show: {times} ({_signed(low)} … "
                f"{_signed(high)} %)."
            )
        word = "slower" if self.relative > 0 else "faster"
        low, high = sorted(map(abs, self.interval))
        head = (
            f"B is {_plain(abs(self.relative))} % {word} per step ({_plain(low)} … {_plain(high)})"
        )
        difference = self.b_ms - self.a_ms
        same = [
            change
            for change in (*self.changes, *self.new, *self.gone)
            if (change.b_ms - change.a_ms) * difference > 0
        ]
        if not same:
            return f"{head}: {_signed_ms(difference)}, in no place more than in others."
        most = max(same, key=lambda change: abs(change.b_ms - change.a_ms))
        return f"{head}: {_signed_ms(most.b_ms - most.a_ms)} of {digits(abs(difference))} in {most.place.said}."


def compare(a: Series, b: Series) -> Comparison:
    """Compare the steps of two series, warm-up left out by whoever calls."""
    told_by = min(a.told_by, b.told_by)
    a, b = a.told_as(told_by), b.told_as(told_by)
    columns_a, columns_b = _starred(a.usual_steps), _starred(b.usual_steps)
    a_ms, b_ms = median(a.ms), median(b.ms)
    steps = min(len(a), len(b))
    interval = _interval(a.ms, b.ms) if steps >= _LEAST_STEPS else None
    changes = []
    difference = b_ms - a_ms
    for place in columns_a.keys() & columns_b.keys() if interval is not None else ():
        before, after = median(columns_a[place]), median(columns_b[place])
        error = hypot(_error(columns_a[place]), _error(columns_b[place]))
        if abs(after - before) > max(_SURE * error, _LEAST_SHARE * a_ms):
            changes.append(_change(place, before, after, difference))
    return Comparison(
        steps,
        a_ms,
        b_ms,
        b_ms / max(a_ms, 1e-9) - 1,
        interval,
        sorted(changes, key=lambda change: -abs(change.b_ms - change.a_ms)),
        _only(columns_b, columns_a, difference, is_new=True),
        _only(columns_a, columns_b, difference, is_new=False),
        told_by,
    )


def _starred(series: Series) -> dict[TimedPlace, Sequence[float]]:
    columns: dict[TimedPlace, Sequence[float]] = {}
    for place, own in series.own.items():
        known = columns.get(place.starred)
        columns[place.starred] = (
            own if known is None else array("d", map(float.__add__, known, own))
        )
    return columns


def _only(
    columns: dict[TimedPlace, Sequence[float]],
    others: dict[TimedPlace, Sequence[float]],
    difference: float,
    *,
    is_new: bool,
) -> list[Change]:
    found = []
    for place in columns.keys() - others.keys():
        own = median(columns[place])
        if own > 0:
            before, after = (0.0, own) if is_new else (own, 0.0)
            found.append(_change(place, before, after, difference))
    return sorted(found, key=lambda change: -abs(change.b_ms - change.a_ms))


def _change(place: TimedPlace, before: float, after: float, difference: float) -> Change:
    share = (after - before) / difference if difference else 0.0
    return Change(place, before, after, share)


def _error(values: Sequence[float]) -> float:
    """Return the standard error of the median, from the values that the median lies between in 95 of 100 cases."""
    in_order = sorted(values)
    count = len(in_order)
    away = isqrt(count) + 1  # 1.96 standard deviations of the median's place are 0.98 √n
    low, high = max(count // 2 - away, 0), min(count // 2 + away, count - 1)
    return (in_order[high] - in_order[low]) / (2 * 1.96)


def _interval(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """Return the bounds that hold 95 % of what drawing the steps anew says of B beside A."""
    random = Random(0)  # the same files have the same answer
    resamples = max(min(_RESAMPLES, _MOST_DRAWN // (len(a) + len(b))), 100)
    relative = sorted(
        median(random.choices(b, k=len(b))) / max(median(random.choices(a, k=len(a))), 1e-9) - 1
        for _ in range(resamples)
    )
    cut = resamples // 40
    return relative[cut], relative[-1 - cut]


def _plain(share: float) -> str:
    return f"{100 * share:.1f}"


def _signed(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−")


def _signed_ms(value: float) -> str:
    return f"{'+' if value > 0 else '−'}{ms(abs(value))}"
