"""Two runs, or two parts of one, step against step: what became slower, by how much, and how sure that is."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from math import hypot, isqrt
from random import Random
from statistics import median
from typing import Any, NamedTuple

from otel_torch_modules._diagnosis.device_times import ToldBy
from otel_torch_modules._diagnosis.pace import PaceChange, compare_paces
from otel_torch_modules._diagnosis.places import TimedPlace, guilty
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
    """What B is beside A. `relative` is 0.05 where B's median step takes 5 % longer; the interval holds 95 %.

    Of too few steps there is no interval, and nothing is beyond noise. `pace` is of the time from start to start, None
    where no step follows another.
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
    pace: PaceChange | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        lists = {
            name: [change.as_json() for change in getattr(self, name)]
            for name in ("changes", "new", "gone")
        }
        return {
            "step": _numbers(self),
            "start_to_start": None if self.pace is None else _numbers(self.pace),
            **lists,
            "told_by": self.told_by.name.lower(),
        }

    @property
    def differs(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)

    def is_slower_than(self, share: float) -> bool:
        """Return whether the whole interval of the median step, or that from start to start, lies above a share."""
        intervals = (self.interval, self.pace and self.pace.interval)
        return any(interval is not None and interval[0] > share for interval in intervals)

    @property
    def sentence(self) -> str:
        """What is to be said first."""
        times = f"{digits(self.a_ms)} and {digits(self.b_ms)} ms a step"
        if self.interval is None:
            return (
                f"{counted(self.steps, 'step')} can show no difference, {_LEAST_STEPS} of each might: {times}, warm-up "
                "left out."
            )
        pace = self.pace
        if not self.differs:
            said = f"{times} ({_bounds(self.interval)} %)"
            if pace is None or not pace.differs:
                return f"No difference that {counted(self.steps, 'step')} can show: {said}."
            return f"{_said_of_pace(pace)}; the median step shows no difference: {said}."
        head = _head(self.relative, self.interval, "per step")
        beside = ""
        if pace is not None and pace.differs and _apart(pace.interval, self.interval):
            beside = f" {_said_of_pace(pace)}."
        difference = self.b_ms - self.a_ms
        same = [
            change
            for change in (*self.changes, *self.new, *self.gone)
            if (change.b_ms - change.a_ms) * difference > 0
        ]
        if not same:
            return f"{head}: {_signed_ms(difference)}, in no place more than in others.{beside}"
        most = max(same, key=lambda change: abs(change.b_ms - change.a_ms))
        more = _signed_ms(most.b_ms - most.a_ms)
        return f"{head}: {more} of {digits(abs(difference))} {most.place.whereabouts}.{beside}"

    @property
    def pace_sentence(self) -> str:
        """How long both take from the start of a step to that of the next."""
        pace = self.pace
        if pace is None:
            return "From start to start nothing is known: no step follows the one before it."
        sure = "" if pace.interval is None else f" ({_bounds(pace.interval)})"
        return (
            f"From start to start, on average: {digits(pace.a_ms)} and {digits(pace.b_ms)} ms, "
            f"{_signed(pace.relative)} %{sure}."
        )


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
            changed = _changed_most(place, a.usual_steps, b.usual_steps)
            if changed != place:  # one of the equals did it all
                before, after = (_median_in(changed, series.usual_steps) for series in (a, b))
            changes.append(_change(changed, before, after, difference))
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
        compare_paces(a, b),
    )


def _starred(series: Series) -> dict[TimedPlace, Sequence[float]]:
    columns: dict[TimedPlace, Sequence[float]] = {}
    for place, own in series.own.items():
        known = columns.get(place.starred)
        columns[place.starred] = (
            own if known is None else array("d", map(float.__add__, known, own))
        )
    return columns


def _changed_most(starred: TimedPlace, a: Series, b: Series) -> TimedPlace:
    """Return the one of equal places that changed, or what they have in common where several did."""
    equals = {place for series in (a, b) for place in series.own if place.starred == starred}
    more = {place: _median_in(place, b) - _median_in(place, a) for place in equals}
    sign = 1 if sum(more.values()) > 0 else -1
    return guilty({place: sign * changed for place, changed in more.items()})


def _median_in(place: TimedPlace, series: Series) -> float:
    """Return the usual own time in a place; 0 where a series does not have it."""
    return median(series.own.get(place) or (0.0,))


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


def _numbers(found: Comparison | PaceChange) -> dict[str, float | None]:
    low, high = found.interval or (None, None)
    return {
        name: None if value is None else round(value, 5)
        for name, value in (
            ("a_ms", found.a_ms),
            ("b_ms", found.b_ms),
            ("relative", found.relative),
            ("low", low),
            ("high", high),
        )
    }


def _said_of_pace(pace: PaceChange) -> str:
    difference = digits(abs(pace.b_ms - pace.a_ms))
    sign = "+" if pace.b_ms > pace.a_ms else "−"
    head = _head(pace.relative, pace.interval, "from start to start, on average")
    return f"{head}: {sign}{difference} ms, {pace.where}"


def _apart(one: tuple[float, float] | None, other: tuple[float, float] | None) -> bool:
    return one is not None and other is not None and (one[0] > other[1] or one[1] < other[0])


def _head(relative: float, interval: tuple[float, float] | None, of: str) -> str:
    word = "slower" if relative > 0 else "faster"
    low, high = sorted(map(abs, interval or (relative, relative)))
    return f"B is {_plain(abs(relative))} % {word} {of} ({_plain(low)} … {_plain(high)})"


def _bounds(interval: tuple[float, float]) -> str:
    return " … ".join(map(_signed, interval))


def _plain(share: float) -> str:
    return f"{100 * share:.1f}"


def _signed(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−")


def _signed_ms(value: float) -> str:
    return f"{'+' if value > 0 else '−'}{ms(abs(value))}"
