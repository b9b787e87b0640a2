"""One step against what is usual for its neighbours, place by place in own time."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from otel_torch_modules._diagnosis.places import TimedPlace
from otel_torch_modules._diagnosis.rules.excess import SLOW, excesses
from otel_torch_modules._diagnosis.rules.explained import because
from otel_torch_modules._diagnosis.rules.failed import failures_of
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._diagnosis.series import MS, Series
from otel_torch_modules._diagnosis.straggler import Straggler, find_straggler
from otel_torch_modules._diagnosis.words import digits, ms
from otel_torch_modules._grammar import agree, first_of
from otel_torch_modules.semconv import PHASE_COLLECTIVE

_NEIGHBOURS = 15  # on each side
_IN_ONE_PLACE = 0.35  # of what the step took more, or less
_AS_USUAL = 1.05  # times the usual step, or so many times shorter: it is as its neighbours
_EXPLAINED = 0.5  # of what the slowest rank took more, that the last one was behind: it is why


class Loss(NamedTuple):
    """What a step took in a place, in ms: more than is usual, or in a step that was shorter less."""

    place: TimedPlace
    took: float
    usual: float

    @property
    def more(self) -> float:
        return self.took - self.usual


class StepOfRank(NamedTuple):
    """A step of one rank beside its neighbours. Times are ms."""

    rank: int | None
    took: float
    usual: float
    losses: list[Loss]  # largest first; what is as usual is not there

    @property
    def more(self) -> float:
        return self.took - self.usual

    @property
    def is_shorter(self) -> bool:
        """Whether it took less than usual."""
        return self.took < self.usual

    @property
    def is_slow(self) -> bool:
        return self.took > self.usual * _AS_USUAL

    @property
    def more_itself(self) -> float:
        """What it took more, but for where ranks wait for each other."""
        waited = (loss.more for loss in self.losses if loss.place.phase == PHASE_COLLECTIVE)
        return self.more - sum(waited)

    @property
    def worst(self) -> Loss | None:
        """The place that most was lost in, or won, if it is much of it."""
        more = abs(self.more)
        if self.losses and abs(self.losses[0].more) >= _IN_ONE_PLACE * more > 0:
            return self.losses[0]
        return None


def compare_step(run: Run, number: int) -> list[StepOfRank]:
    """Return the step of this number for each rank that has it, as it was when the job made it last."""
    return [_of_rank(series, at) for series, at in _found(run, number)]


def _found(run: Run, number: int) -> list[tuple[Series, int]]:
    """Return where each rank has the step: all of one trace, for a job that was started again makes it once more."""
    found = [
        (series, at)
        for series in run.ranks
        for at, known in enumerate(series.numbers)
        if known == number
    ]
    if not found:
        return []
    last, at = max(found, key=lambda place: place[0].starts[place[1]])
    trace_id = last.steps[at].trace_id
    return [(series, at) for series, at in found if series.steps[at].trace_id == trace_id]


def _of_rank(series: Series, at: int) -> StepOfRank:
    def usual(column: Sequence[float], others: Sequence[int]) -> float:
        return median(column[other] for other in others)

    took, usually = series.ms[at], usual(series.ms, _around(_of_its_kind(series, at), at))
    sign = -1 if took < usually else 1
    alike = _around(_alike(series, at), at)
    places = [Loss(place, column[at], usual(column, alike)) for place, column in series.own.items()]
    losses = [loss for loss in places if sign * loss.more > 0]
    losses.sort(key=lambda loss: -sign * loss.more)
    return StepOfRank(series.rank, took, usually, losses)


def _alike(series: Series, at: int) -> Sequence[int]:
    """Return the steps that have as much as that one, their modules or phases only, so that places can be compared.

    Those that were sent for being slow say nothing of what is usual.
    """
    if not series.in_full[at]:
        return [other for other, in_full in enumerate(series.in_full) if not in_full]
    usual = set(map(id, series.usual_steps.steps))
    kind = _of_its_kind(series, at)
    return [other for other in kind if id(series.steps[other]) in usual or other == at]


def _of_its_kind(series: Series, at: int) -> Sequence[int]:
    return range(len(series)) if series.in_turn is None else series.in_turn.of(at)


def _around(chosen: Sequence[int], at: int) -> Sequence[int]:
    """Return those of the chosen steps that are next to one of them."""
    place = chosen.index(at)
    around = chosen[max(place - _NEIGHBOURS, 0) : place + _NEIGHBOURS + 1]
    return [other for other in around if other != at] or [at]


def sentence(run: Run, number: int) -> str:
    """Return what is to be said of a step in a sentence.

    Raises:
        KeyError: there is no such step that is whole.
    """
    ranks = compare_step(run, number)
    if not ranks:
        raise KeyError(number)
    last = _last(run, number) if len(ranks) > 1 else None
    told = _told(ranks, last)
    awaited = last if last and told.rank != last.rank and _explains(last, told) else None
    on_rank = f" on rank {told.rank}" if awaited and told.is_slow else ""
    head = (
        f"Step {number} took {ms(told.took)}{on_rank}, {digits(told.took / max(told.usual, 1e-9))} × the usual "
        f"{digits(told.usual)}"
    )
    trace_id = next(series.steps[at].trace_id for series, at in _found(run, number))
    failure = failures_of(run).get((trace_id, number))
    if failure is not None:
        return f"{head}: it was ended by {failure.raised}, {failure.place}{failure.on_rank}."
    if told.usual <= told.took * _AS_USUAL and not told.is_slow:
        return f"{head}: it is as its neighbours."
    worst = told.worst
    if told.is_shorter:
        if worst is None:
            return f"{head}: it was shorter in many places at once."
        return f"{head}: −{ms(-worst.more)} {worst.place.said} (usually {digits(worst.usual)})."
    if awaited is not None:
        where = "" if worst is None else f" {_where(worst)}, where"
        return f"{head}:{where} it waited for rank {awaited.rank}, which {_lost(awaited)}."
    why = _because(run, told.rank, number, trace_id)
    if worst is None:
        return f"{head}: it was slower in many places at once{why}."
    return f"{head}: {_where(worst)}{_who(ranks, told, worst)}{why}."


def _where(worst: Loss) -> str:
    return f"+{ms(worst.more)} {worst.place.said} (usually {digits(worst.usual)})"


def _lost(last: Straggler) -> str:
    lost = ms(last.lost / MS)
    return f"began {lost} late" if last.where is None else f"lost {lost} {last.whereabouts}"


def _last(run: Run, number: int) -> Straggler:
    found = _found(run, number)
    return find_straggler(
        [series.steps[at] for series, at in found],
        [
            series.steps[at - 1]
            for series, at in found
            if at and series.numbers[at - 1] == number - 1
        ],
    )


def _told(ranks: Sequence[StepOfRank], last: Straggler | None) -> StepOfRank:
    """Return the rank whose step says most: that of the late one, unless it lost its time before the step."""
    slowest = max(ranks, key=lambda of_rank: of_rank.more)
    if last is not None and _explains(last, slowest):
        late = next(of_rank for of_rank in ranks if of_rank.rank == last.rank)
        return late if last.is_in_step and late.is_slow else slowest
    itself = max(ranks, key=lambda of_rank: of_rank.more_itself)
    return itself if itself.more_itself >= _EXPLAINED * slowest.more else slowest


def _explains(last: Straggler, of_rank: StepOfRank) -> bool:
    return last.behind / MS >= _EXPLAINED * of_rank.more


def _because(run: Run, rank: int | None, number: int, trace_id: str) -> str:
    """Return why the step was slow, where that rank's own span says it."""
    slow = (
        because(run, excess)
        for excess in excesses(run, SLOW)
        if rank == run.main.rank
        and run.steady.numbers[excess.at] == number
        and run.steady.steps[excess.at].trace_id == trace_id
    )
    return next(slow, "")


def _who(ranks: Sequence[StepOfRank], told: StepOfRank, worst: Loss) -> str:
    if len(ranks) == 1:
        return ""
    others = [of_rank for of_rank in ranks if of_rank is not told]
    same = [
        of_rank
        for of_rank in others
        if of_rank.worst and of_rank.worst.place.starred == worst.place.starred
    ]
    if len(same) == len(others):
        return " on all ranks"
    waiting = [of_rank for of_rank in others if of_rank.is_slow]
    if not waiting:  # whoever waits for it does so in the next step
        return f" on rank {told.rank} alone"
    waited = {
        of_rank.worst.place.name
        if of_rank.worst.place.phase == PHASE_COLLECTIVE
        else of_rank.worst.place.phase
        for of_rank in waiting
        if of_rank.worst
    }
    where = f" in {waited.pop()}" if len(waited) == 1 else ""
    who = "the others"
    if len(waiting) < len(others):
        who = agree(len(waiting), "rank ", "ranks ") + first_of(
            [of_rank.rank or 0 for of_rank in waiting]
        )
    return f" on rank {told.rank} alone; {who} waited for it{where}"
