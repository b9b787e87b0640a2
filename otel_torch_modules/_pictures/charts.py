"""What a report draws, as plain numbers: all steps, ranks against steps, and a few steps in full.

A page must stay small whatever the run is: of many steps the slowest of a few stands for these, times are rounded to a
millionth of a step, and of a step with very many spans the longest are drawn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from heapq import nlargest
from statistics import median
from typing import Any, NamedTuple

from otel_torch_modules import semconv
from otel_torch_modules._diagnosis.places import BETWEEN, TimedPlace
from otel_torch_modules._diagnosis.rules.excess import SLOW, excesses
from otel_torch_modules._diagnosis.rules.explained import in_short
from otel_torch_modules._diagnosis.rules.failed import failures_of_main
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._diagnosis.series import Series, own_times
from otel_torch_modules._pictures.titles import title
from otel_torch_modules._shape import Site
from otel_torch_modules._trace import Span

PHASES = (
    semconv.PHASE_FORWARD,
    semconv.PHASE_BACKWARD,
    semconv.PHASE_RECOMPUTE,
    semconv.PHASE_OPTIMIZER,
    semconv.PHASE_DATA,
    BETWEEN,
)
OTHER = "other"  # compilations, collections of garbage and the like
_MOST_BARS = 2000
_MOST_CELLS = 100_000
_MOST_COLUMNS = 400
_MOST_FLAMES = 8
_MOST_SPANS = 4000  # of a step
_RESOLUTION = 1_000_000  # parts of a step


class Odd(NamedTuple):
    """A step that is not as the others, and what is to be said of it."""

    at: int  # in the main rank's series
    words: str


def odd_steps(run: Run) -> list[Odd]:
    """Return steps that are warm-up, slow, or were ended by an exception, in order of time."""
    odd = dict.fromkeys(range(run.warm_up), f"{run.warm_up_said}, not counted")
    for excess in excesses(run, SLOW):
        odd[run.warm_up + excess.at] = in_short(run, excess)
    for at, failure in failures_of_main(run).items():
        odd[at] = " · ".join(filter(None, (odd.get(at), f"✗ {failure.raised}")))
    return [Odd(at, words) for at, words in sorted(odd.items())]


def usual_at(run: Run) -> int:
    """Return which of the main rank's steps is the usual one: it takes as long as the median."""
    steady = range(run.warm_up, len(run.main))
    return min(steady, key=lambda at: abs(run.main.ms[at] - run.usual_ms))


def slowest_at(run: Run) -> int:
    """Return which of the main rank's steps took longest, warm-up left out."""
    return max(range(run.warm_up, len(run.main)), key=run.main.ms.__getitem__)


def bars(run: Run, odd: Sequence[Odd]) -> dict[str, Any]:
    """Return the steps with their phases, in ms; where there are very many, the slowest of each few."""
    series = run.main
    stride = -(-len(series) // _MOST_BARS)
    chosen = [
        max(range(first, min(first + stride, len(series))), key=series.ms.__getitem__)
        for first in range(0, len(series), stride)
    ]
    parts = {phase: series.phase(phase) for phase in PHASES}
    said = dict(odd)
    return {
        "stride": stride,
        "usual": _short(run.usual_ms),
        "at": chosen,
        "numbers": [series.numbers[at] for at in chosen],
        "ms": [_short(series.ms[at]) for at in chosen],
        "parts": [[_short(part[at]) for at in chosen] for part in parts.values()],
        "odd": {place: said[at] for place, at in enumerate(chosen) if at in said},
    }


def heat(run: Run) -> dict[str, Any] | None:
    """Return for each rank, step by step, how much longer than the ranks' median it worked, in percent.

    Work is a step without its waits for the others: in collectives, or where these are not recorded in the engine once
    it has left all modules. None: there is one rank only.
    """
    if len(run.ranks) < 2:
        return None
    work = [_work(series) for series in run.ranks]
    places = dict(zip(_made(run.main), range(len(run.main)), strict=True))
    made = sorted(set().union(*work))
    columns = max(min(_MOST_COLUMNS, _MOST_CELLS // len(run.ranks), len(made)), 1)
    stride = -(-len(made) // columns)
    rows: list[list[int | None]] = [[] for _ in run.ranks]
    for first in range(0, len(made), stride):
        some = made[first : first + stride]
        times = [[of_rank[step] for step in some if step in of_rank] for of_rank in work]
        means = [sum(few) / len(few) if few else None for few in times]
        usual = median(mean for mean in means if mean is not None)
        for row, mean in zip(rows, means, strict=True):
            row.append(None if mean is None else round(100 * (mean / max(usual, 1e-9) - 1)))
    return {
        "stride": stride,
        "at": [places.get(step) for step in made[::stride]],
        "numbers": [number for _, number in made[::stride]],
        "ranks": [series.rank for series in run.ranks],
        "rows": rows,
    }


_Made = tuple[int, int]  # how often a rank had made a step of a number before, and that number


def _made(series: Series) -> Iterator[_Made]:
    times: Counter[int] = Counter()
    for number in series.numbers:
        yield times[number], number
        times[number] += 1


def _work(series: Series) -> dict[_Made, float]:
    waits = [column for place, column in series.own.items() if _is_wait(place)]
    return {
        step: series.ms[at] - sum(wait[at] for wait in waits)
        for at, step in enumerate(_made(series))
    }


def _is_wait(place: TimedPlace) -> bool:
    if place.phase == semconv.PHASE_BACKWARD:
        return place.module_class is None
    return place.phase == semconv.PHASE_COLLECTIVE


class Flames:
    """A few steps in full, and the titles of their spans."""

    def __init__(self, run: Run, odd: Sequence[Odd]) -> None:
        self._titles: dict[str, int] = {}
        self.usual, self.slowest = usual_at(run), slowest_at(run)
        rest = sorted(odd, key=lambda step: -run.main.ms[step.at])
        chosen = dict.fromkeys((self.usual, self.slowest, *(step.at for step in rest)))
        self._steps = {
            at: {"number": run.main.numbers[at], **self._flame(run.main.steps[at])}
            for at in list(chosen)[:_MOST_FLAMES]
        }

    def as_json(self, run: Run) -> dict[str, Any]:
        """Return them as plain values, by their places in the main rank's series: several may have one number."""
        return {
            "titles": list(self._titles),
            "usual": self.usual,
            "slowest": self.slowest,
            "rank": run.main.rank,
            "steps": self._steps,
        }

    def _flame(self, root: Span) -> dict[str, Any]:
        unit = max(root.duration // _RESOLUTION, 1)
        spans = list(self._rows(root, root.start, unit, 0))
        left = root.shape.after[root.at] - root.at - len(spans)
        if root.lane is not None:  # what it has lies at other times than the program's spans
            deepest = max(depth for depth, *_ in spans)
            spans += self._rows(root.lane, root.start, unit, deepest + 1)
        return {"ms": root.duration / 1e6, "unit": unit / 1e6, "left": left, "spans": spans}

    def _rows(self, top: Span, since: int, unit: int, row: int) -> Iterator[list[int]]:
        """Yield of each span that is drawn: its row, start, length, own time, title and phase."""
        trace, shape, first = top.trace, top.shape, top.at
        own = own_times(top)
        depths: list[int] = []
        phases: list[int] = []
        for at in range(first, shape.after[first]):
            above = shape.parents[at] - first if at > first else None
            depths.append(row if above is None else depths[above] + 1)
            phases.append(_phase(shape.sites[at], None if above is None else phases[above]))
        for at in self._drawn(top):
            place = at - first
            yield [
                depths[place],
                (trace.starts[at] - since) // unit,
                (trace.ends[at] - trace.starts[at]) // unit,
                own[place] // unit,
                self._titles.setdefault(_title(shape.sites[at]), len(self._titles)),
                phases[place],
            ]

    def _drawn(self, root: Span) -> Iterable[int]:
        numbers = range(root.at, root.shape.after[root.at])
        if len(numbers) <= _MOST_SPANS:
            return numbers
        starts, ends = root.trace.starts, root.trace.ends
        return sorted(nlargest(_MOST_SPANS, numbers, key=lambda at: ends[at] - starts[at]))


def _title(site: Site) -> str:
    on_device = site.phase == semconv.PHASE_DEVICE and site.name != semconv.PHASE_DEVICE
    # Not the phase first: a label leaves out that of a module's span.
    return f"device {site.name}" if on_device else title(site)


def _phase(site: Site, around: int | None) -> int:
    phase = site.name if site.phase == semconv.PHASE_DEVICE else site.phase
    if phase in PHASES:
        return PHASES.index(phase)
    if phase is None and around is not None:  # of the program's own
        return around
    is_around = phase in (semconv.PHASE_STEP, semconv.PHASE_RANK)
    return PHASES.index(BETWEEN) if is_around else len(PHASES)


def _short(value: float) -> float:
    """Return a time with four digits."""
    return float(f"{value:.4g}")
