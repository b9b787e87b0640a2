"""A run as the rules see it: the steps of each rank, which of them are warm-up, and what is usual for the others."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from statistics import fmean, median

from otel_torch_modules import semconv
from otel_torch_modules._diagnosis.covered import Covered
from otel_torch_modules._diagnosis.neighbours import noise_of, rolling_median
from otel_torch_modules._diagnosis.outside import causes_in, in_no_step, kind_of
from otel_torch_modules._diagnosis.places import TimedPlace
from otel_torch_modules._diagnosis.series import MS, Series, gaps, series_of, usual
from otel_torch_modules._diagnosis.words import ordinal
from otel_torch_modules._trace import Span

_WARM_UP = 1.2  # times the usual step: the first steps that take longer are warm-up
_MOST_WARM_UP = 20


class Run:
    """What the rules are functions of.

    Args:
        steps: the spans of steps, or of ranks whose step is not there, in order of time.
        outside: roots that are no steps: evaluations, checkpoints, spans of the program's.
    """

    def __init__(self, steps: Sequence[Span], outside: Sequence[Span] = ()) -> None:
        whole = [step for step in steps if not step.incomplete and not step.truncated]
        self.outside = [*in_no_step(outside)]
        self.incomplete = sum(step.incomplete for step in steps)
        self.truncated = sum(step.truncated for step in steps)
        self.failed = [step for step in steps if any(head.failed for head in (step, *step.ranks))]
        self.all = steps  # also those that are not whole
        self.dropped = sum(_dropped(root) for root in (*steps, *outside))
        self.ranks: list[Series] = series_of(whole)

    def __bool__(self) -> bool:
        return bool(self.ranks)

    @cached_property
    def main(self) -> Series:
        """The rank of which most is known."""
        return max(self.ranks, key=lambda series: (len(series), len(series.own)))

    @cached_property
    def warm_up(self) -> int:
        """How many of the first steps are warm-up."""
        times, kinds = self.main.ms, self.main.in_turn
        most = min(_MOST_WARM_UP, max(len(times) // 4, 1)) if len(times) > 2 else 0
        usually = [median(times) if kinds is None else kinds.ms_of(at) for at in range(most)]
        return next((at for at in range(most) if times[at] <= _WARM_UP * usually[at]), most)

    @property
    def warm_up_said(self) -> str:
        """What these are called: of a job whose first steps nobody recorded they are none."""
        return "warm-up" if self.main.numbers[0] == 0 else "the first recorded"

    @cached_property
    def steady(self) -> Series:
        """The main rank's steps without warm-up."""
        return self.main.select(range(self.warm_up, len(self.main)))

    @cached_property
    def usual_ms(self) -> float:
        """How long a step usually takes; of two kinds in turn the mean of both, a length that no step has."""
        kinds = self.steady.in_turn
        if kinds is None:
            return usual(self.steady.ms)
        return (kinds.shorter_ms + kinds.longer_ms) / 2

    @cached_property
    def total_ms(self) -> float:
        """The time of the run, on the main rank: of its steps, between those that follow each other, and outside."""
        series = self.main
        steps = [*zip(series.starts, series.ends, strict=True)]
        others = [(series.ends[at], series.starts[at + 1]) for at, _ in gaps(series)]
        others += [(span.start, span.end) for span in self.outside_of_main]
        return sum(series.ms) + (Covered([*steps, *others]).whole - Covered(steps).whole) / MS

    @cached_property
    def outside_of_main(self) -> Sequence[Span]:
        """What the main rank did in no step."""
        processes = {step.process for step in self.main.steps}
        return [span for span in self.outside if span.process in processes]

    def gaps_in_no_span(self, series: Series) -> Iterator[tuple[int, float]]:
        """Yield the time in ms between each step of a rank and the next, without what else it did meanwhile."""
        processes = {step.process for step in series.steps}
        others = Covered((one.start, one.end) for one in self.outside if one.process in processes)
        for at, gap in gaps(series):
            meanwhile = others.until(series.starts[at + 1]) - others.until(series.ends[at])
            yield at, gap - meanwhile / MS

    def outside_in(self, kind: str) -> Sequence[Span]:
        """Return the spans of one kind that lie in no step, of the process that spent the most time in them."""
        of_process: defaultdict[str, list[Span]] = defaultdict(list)
        for span in self.outside:
            if kind_of(span) == kind:
                of_process[span.process].append(span)
        return max(
            of_process.values(),
            key=lambda spans: sum(span.duration for span in spans),
            default=(),
        )

    def ms_outside(self, spans: Sequence[Span]) -> float:
        """Return for how long some spans of one process go on while it is in no step, without the causes in them."""
        of_process = {span.process for span in spans}
        series = next((one for one in self.ranks if one.steps[-1].process in of_process), self.main)
        steps = [*zip(series.starts, series.ends, strict=True)]
        both = Covered([*steps, *((span.start, span.end) for span in spans)])
        others = {cause for span in spans for cause in causes_in(span)}.difference(spans)
        causes = [(cause.start, cause.end) for cause in others]
        return (both.whole - Covered([*steps, *causes]).whole) / MS

    @cached_property
    def usual_own(self) -> dict[TimedPlace, float]:
        """Own time in each place of the usual step. They add up to `usual_whole_ms`.

        Where few steps have modules, a phase takes what it does in all, and these few say how its places share it.
        """
        own = _means(self.steady.usual_steps)
        return own if all(self.steady.in_full) else _shared_out(_means(self.steady), own)

    def usual_own_in(self, phase: str) -> dict[TimedPlace, float]:
        """Return the same of the places of one phase."""
        return {place: own for place, own in self.usual_own.items() if place.phase == phase}

    @cached_property
    def usual_phases(self) -> Mapping[str, float]:
        """The same by phase."""
        phases: dict[str, float] = {}
        for place, own in self.usual_own.items():
            phases[place.phase] = phases.get(place.phase, 0.0) + own
        return phases

    @cached_property
    def usual_whole_ms(self) -> float:
        """How long the usual step is that own times are of: what every share of a step is a share of.

        Where spans of several threads overlap, they are longer together than the step.
        """
        return max(sum(self.usual_own.values()), 1e-9)

    @cached_property
    def usual_own_of_phases(self) -> dict[TimedPlace, float]:
        """Own time in each place of the usual step that was sent with phases only."""
        steady = self.steady
        outlines = [at for at, in_full in enumerate(steady.in_full) if not in_full]
        return _means(steady.select(outlines))

    def usual_own_like(self, at: int) -> dict[TimedPlace, float]:
        """Return own time in each place of the steps that have as much as that steady one, and are of its kind."""
        kinds = self.steady.in_turn
        if kinds is not None:
            return self.usual_own_of_longer if at in kinds.longer else self.usual_own_of_shorter
        return self.usual_own if self.steady.in_full[at] else self.usual_own_of_phases

    @cached_property
    def usual_own_of_shorter(self) -> dict[TimedPlace, float]:
        """Own time in each place of the shorter of two kinds of steps."""
        kinds = self.steady.in_turn
        return {} if kinds is None else _means(self.steady.select(kinds.shorter))

    @cached_property
    def usual_own_of_longer(self) -> dict[TimedPlace, float]:
        """The same of the longer ones."""
        kinds = self.steady.in_turn
        return {} if kinds is None else _means(self.steady.select(kinds.longer))

    @cached_property
    def baseline(self) -> list[float]:
        """For each steady step what is usual for its neighbours, which are of its kind."""
        times, kinds = self.steady.ms, self.steady.in_turn
        if kinds is None:
            return rolling_median(times)
        baseline = [0.0] * len(times)
        for kind in (kinds.shorter, kinds.longer):
            for at, base in zip(kind, rolling_median([times[at] for at in kind]), strict=True):
                baseline[at] = base
        return baseline

    @cached_property
    def noise(self) -> float:
        """How far a steady step is usually from its baseline, in ms: as a standard deviation would be."""
        return noise_of(a - b for a, b in zip(self.steady.ms, self.baseline, strict=True))

    @cached_property
    def repeated(self) -> frozenset[int]:
        """The numbers that several of the main rank's steps have: a job that was started again makes some once more."""
        return frozenset(n for n, times in Counter(self.main.numbers).items() if times > 1)

    def called(self, at: int) -> str:
        """Return the number of a steady step as it stands in a sentence, and which one it is of those that have it."""
        number = self.steady.numbers[at]
        if number not in self.repeated:
            return str(number)
        same = [place for place, known in enumerate(self.main.numbers) if known == number]
        return f"{number} (the {ordinal(same.index(self.warm_up + at) + 1)} of {len(same)})"

    def cost(self, ms_of_all: float) -> tuple[float, float]:
        """Return what some ms, of all steps together, are per step and as a share of the run's time."""
        # What is usual may be more than the mean.
        return ms_of_all / len(self.main), min(ms_of_all / max(self.total_ms, 1e-9), 1.0)

    def share_of_each(self, ms_of_each: float) -> float:
        """Return the share of the run's time that each step costs so many ms of."""
        return self.cost(ms_of_each * len(self.main))[1]


def _means(series: Series) -> dict[TimedPlace, float]:
    """Return what steps usually take in each place."""
    return {place: fmean(column or (0.0,)) for place, column in series.middling.own.items()}


def _shared_out(
    whole: Mapping[TimedPlace, float], own: Mapping[TimedPlace, float]
) -> dict[TimedPlace, float]:
    """Return what each phase takes in `whole`, shared out among its places as they share it in `own`."""
    phases, parts = _by_phase(whole), _by_phase(own)
    shared = {
        place: time * phases.get(_phase_around(place), 0.0) / max(parts[_phase_around(place)], 1e-9)
        for place, time in own.items()
    }
    others = {place: time for place, time in whole.items() if not parts.get(_phase_around(place))}
    return {**shared, **others}


def _by_phase(own: Mapping[TimedPlace, float]) -> Mapping[str, float]:
    phases: defaultdict[str, float] = defaultdict(float)
    for place, time in own.items():
        phases[_phase_around(place)] += time
    return phases


def _phase_around(place: TimedPlace) -> str:
    """Return the phase that has a place's time where modules are not sent: nobody knows then what is recomputed."""
    return semconv.PHASE_BACKWARD if place.phase == semconv.PHASE_RECOMPUTE else place.phase


def _dropped(step: Span) -> int:
    ranks = step.ranks  # each drops its own; the step's span repeats what one of them says
    return sum(rank.dropped_before for rank in ranks) if ranks else step.dropped_before
