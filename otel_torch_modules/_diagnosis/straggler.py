"""Which rank the others waited for in a step, and where it lost its time.

In a step that ends with an exchange of gradients all ranks end together, for the early ones wait for the late one. So
what counts is not how long a rank's step took, but how far behind the others it was at its worst. Spans of the
same place in the tree are compared, each rank with the median of the others. Where a rank fell behind is the span whose
own time, without that of the spans below it, exceeds the others' most. One that began the step late lost its time in
the step before, after the last place where it waited: that is looked for there.

A collective that no rank leaves before all have come ends everywhere at once, so the rank whose span of it is the
shortest came last, by as much as it is shorter: no clock is compared for that. How long a rank waited before that in
collectives of smaller groups is no delay of its own. Where there is no collective of all, ends are compared, by the
hosts' own clocks. Ranks that wait for each other are together at some time of a step: by as much as one is behind all
the while its clock is wrong, or nobody waits for it. A rank of a host whose clock is slow seems to be early.

Where all ranks say when their devices came to the same places, it is these times that are compared: on an accelerator
the program runs ahead, and its own say little.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from otel_torch_modules import semconv
from otel_torch_modules._diagnosis.device_times import ran
from otel_torch_modules._diagnosis.late_start import lost_at_end
from otel_torch_modules._diagnosis.rank_trees import (
    Compared,
    Place,
    RankTree,
    in_own_span,
    meetings,
    more_than_others,
    own_times,
)
from otel_torch_modules._diagnosis.small_groups import GroupWaits, less_waits, met_groups
from otel_torch_modules._trace import Span

_EXPLAINED = 0.5  # of how late a rank began a step, by what it lost in the step before


class Straggler(NamedTuple):
    """The last rank of a step. Times are nanoseconds."""

    rank: int
    behind: int  # at its worst
    lost: int  # of that, in `where`
    where: Span | None  # None: the rank began the step late
    on_device: bool = False  # by the times of the ranks' devices
    apart: int = 0  # by how much any rank is behind all the while: clocks differ, or nobody waits
    is_before: bool = False  # `where` is in the step before, after what all ranks met in

    @property
    def place(self) -> str:
        """Where the time was lost: the phase and the module's full name, the span's name, or outside them all."""
        return f"{self._place} on the device" if self.on_device else self._place

    @property
    def _place(self) -> str:
        if self.where is None:
            return "before the step"
        if self.where.phase == semconv.PHASE_RANK:
            return "between its phases"
        fqn = self.where.text(semconv.MODULE_FQN)
        return self.where.name if fqn is None else f"{self.where.phase} {fqn}"

    @property
    def whereabouts(self) -> str:
        """The place, as it stands in a sentence."""
        is_span = self.where is not None and self.where.phase != semconv.PHASE_RANK
        where = f"in {self.place}" if is_span else self.place
        return f"{where} at the end of the step before" if self.is_before else where

    @property
    def is_in_step(self) -> bool:
        """Whether the time was lost in the step itself."""
        return self.where is not None and not self.is_before

    @property
    def phase(self) -> str | None:
        """The phase of the span in which the time was lost; None outside them all."""
        is_span = self.where is not None and self.where.phase != semconv.PHASE_RANK
        return self.where.phase if self.where is not None and is_span else None

    @property
    def sentence(self) -> str:
        """All of it."""
        last = f"Rank {self.rank} was last, {self.behind / 1e6:.2f} ms behind"
        lost = self.lost / 1e6
        if self.where is None:
            return f"{last}: it began the step {lost:.2f} ms late."
        if abs(self.lost - self.behind) <= 0.1 * self.behind:  # it is told once
            return f"{last}: it lost them {self.whereabouts}."
        return f"{last}: it lost {lost:.2f} ms {self.whereabouts}."


def find_straggler(ranks: Sequence[Span], before: Sequence[Span] = ()) -> Straggler:
    """Return the last of `ranks`, the rank spans of one step, at least two.

    Only places that all ranks have are compared: where some record phases only, phases are. Where some have met without
    the others, these are looked at by themselves too.

    Args:
        before: the spans of the same ranks in the step before, if they are known.
    """
    now, earlier = [RankTree.of(span) for span in ranks], [RankTree.of(span) for span in before]
    last = _last(now, earlier)
    for group in sorted(met_groups([rank.tree for rank in now])):
        members = [now[number] for number in group]
        numbers = {rank.span.rank for rank in members}
        of_group = _last(members, [rank for rank in earlier if rank.span.rank in numbers])
        last = max(last, of_group, key=lambda last: last.behind)
    return last


def _last(ranks: Sequence[RankTree], before: Sequence[RankTree]) -> Straggler:
    trees = [rank.tree for rank in ranks]
    common = set(trees[0]).intersection(*trees)
    met = meetings(trees, common)
    on_device = not met and _turn_to_devices(trees, common)
    tails = _tails(ranks, before)
    waits = GroupWaits(trees, met, tails)
    own = [own_times(tree, common) for tree in trees]
    came = {
        place: [(-tree[place].duration if met else tree[place].end) for tree in trees]
        for place in met or common
    }
    late = {
        place: behind_others(
            less_waits(
                times,
                [
                    waits.before(number, tree[place].start if met else tree[place].end)
                    for number, tree in enumerate(trees)
                ],
            )
        )
        for place, times in came.items()
    }
    # By how much each is behind at all times of the step, from its start on.
    begun = [tree[()].start for tree in trees]
    all_the_while = [behind_others(times) for times in (begun, *came.values())]
    least = [min(of_rank) for of_rank in zip(*all_the_while, strict=True)]
    apart = [0 if met else max(behind, 0) for behind in least]
    worst = {
        number: max((behind[number] - apart[number], place) for place, behind in late.items())
        for number in range(len(trees))
    }
    number = max(worst, key=lambda number: worst[number][0])
    behind, place = worst[number]
    tree = trees[number]
    known = tree[place].start if met else tree[place].end
    excess = {
        earlier: more_than_others(own, number, earlier)
        for earlier in common
        if tree[earlier].span.phase != semconv.PHASE_COLLECTIVE
        and (
            (tree[earlier].start if met else tree[earlier].end) <= known
            or place[: len(earlier)] == earlier
        )
    }
    where = max(excess, key=lambda earlier: (excess[earlier], earlier))
    # By each rank's own clock, where the end of what all met in is the same moment on all of them.
    starts = [
        start - (tree[place].end if met else 0) for start, tree in zip(begun, trees, strict=True)
    ]
    started = behind_others(less_waits(starts, tails))[number] - apart[number]
    rank = ranks[number].span.rank
    assert rank is not None
    if started >= excess[where]:
        earlier_loss = lost_at_end(before, rank)
        if earlier_loss is not None and earlier_loss.lost >= _EXPLAINED * started:
            span, lost = earlier_loss
            return Straggler(rank, behind, lost, span, apart=max(apart), is_before=True)
        return Straggler(rank, behind, started, None, apart=max(apart))
    found = in_own_span(tree, common, where, excess[where]) or tree[where]
    return Straggler(rank, behind, round(excess[where]), found.span, on_device, max(apart))


def _tails(ranks: Sequence[RankTree], before: Sequence[RankTree]) -> list[int]:
    """Return for how long each rank waited for some of the others at the end of the step before, after all had met."""
    trees = [rank.tree for rank in before]
    met = meetings(trees, set(trees[0]).intersection(*trees)) if trees else []
    if not met:
        return [0] * len(ranks)
    waits = GroupWaits(trees, met)
    of_rank = {
        rank.span.rank: waits.before(number, rank.span.end) for number, rank in enumerate(before)
    }
    return [of_rank.get(rank.span.rank, 0) for rank in ranks]


def _turn_to_devices(trees: list[Mapping[Place, Compared]], common: set[Place]) -> bool:
    """Put trees there of the places of which all devices have times, with these; False where there are none."""
    known = [place for place in common if all(_on_device(tree[place]) for tree in trees)]
    if not known:
        return False
    for number, tree in enumerate(trees):
        found = {place: came for place in known if (came := _on_device(tree[place])) is not None}
        rank = tree[()]
        end = max(compared.end for compared in found.values())
        trees[number] = {(): rank._replace(end=max(end, rank.start)), **found}
    common.intersection_update(trees[0])
    return True


def _on_device(compared: Compared) -> Compared | None:
    """Return it by the times of its device; None where that says nothing of it."""
    times = ran(compared.span)
    return None if times is None else Compared(compared.span, *times)


def behind_others(times: Sequence[int]) -> list[int]:
    """Return by how much each of some times is later than the median of the others, of which there may be thousands."""
    ordered = sorted(times)
    low, high = (len(times) - 2) // 2, (len(times) - 1) // 2  # of the others, the middle
    behind = []
    for time in times:
        place = bisect_left(ordered, time)
        middle = [ordered[at + (at >= place)] for at in (low, high)]
        behind.append(time - sum(middle) // 2)
    return behind
