"""Where the ranks of a job stood when nothing happened, and which of them the others waited for.

Ranks that stand at the same place are one group. Behind is the rank in an earlier step, or that has begun fewer
collectives than others of the same process group, and of several the one that waits in none; where that is not known,
the smallest group.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from otel_torch_modules import semconv
from otel_torch_modules._grammar import agree, counted
from otel_torch_modules._trace import Span

_COLLECTIVE = re.compile(r"(?P<group>.*): (?P<name>\S+) (?P<number>[0-9]{1,18})(?P<ended>, ended)?")


_MOST_RANKS = 1 << 20
_MOST_NAMED = 32


class Collective(NamedTuple):
    """One that a rank has begun last."""

    group: str
    name: str
    number: int
    ended: bool

    def __str__(self) -> str:
        return f"{self.group}: {self.name} {self.number}" + (", ended" if self.ended else "")


def ranks(numbers: Sequence[int]) -> str:
    """Return how these are called in a sentence, the first of them where they are many."""
    more = len(numbers) - _MOST_NAMED
    named = ", ".join(map(str, numbers[:_MOST_NAMED])) + (f" and {more} more" if more > 0 else "")
    return agree(len(numbers), "rank ", "ranks ") + named


def in_steps(numbers: Sequence[int]) -> str:
    """Return how the steps are called in which ranks stood."""
    return agree(len(numbers), "step ", "steps ") + ", ".join(map(str, numbers))


class RanksAtPlace(NamedTuple):
    """Ranks at one place."""

    ranks: tuple[int, ...]  # empty in a job of one process
    place: str
    frames: str
    collectives: tuple[Collective, ...]
    step: int | None = None  # where others stand in another one

    @property
    def label(self) -> str:
        """The ranks by their numbers, before what they are at."""
        in_step = "" if self.step is None else f", {in_steps((self.step,))}"
        return f"{ranks(self.ranks)}{in_step}: " if self.ranks else ""

    @property
    def begun(self) -> dict[str, int]:
        """The number of the collective that the ranks have begun last, by process group."""
        return {
            one.group: max(other.number for other in self.collectives if other.group == one.group)
            for one in self.collectives
        }

    @property
    def waits_in(self) -> str | None:
        """The collective in which they wait, be there one."""
        return next((one.name for one in self.collectives if not one.ended), None)

    @property
    def who(self) -> str:
        """The ranks, as the beginning of a sentence."""
        if not self.ranks:
            return "The process"
        if len(self.ranks) == 1:
            return f"Rank {self.ranks[0]}"
        return counted(len(self.ranks), "rank")

    @property
    def verb(self) -> str:
        """What agrees with their number."""
        return self._agreed("was", "were")

    @property
    def at(self) -> str:
        """The place, as it stands in a sentence."""
        return f"in {self.place}" if self.place else "outside any phase"

    @property
    def where(self) -> str:
        """What they are at, and where in Python."""
        end = self.frames.rpartition(" → ")[2]
        if self.waits_in is None:
            return f"{self._agreed('is', 'are')} {self.at}, {end}"
        return f"{self._agreed('waits', 'wait')} in {self.waits_in} ({self.place or end})"

    def _agreed(self, one: str, more: str) -> str:
        return agree(len(self.ranks) or 1, one, more)


class Stalled(NamedTuple):
    """What all ranks said of a stall at once."""

    trace_ids: tuple[str, ...]  # several where ranks stood in different steps
    steps: tuple[int, ...]  # none where that is not known
    seconds: float
    reason: str
    groups: list[RanksAtPlace]  # those that the others wait for last

    @property
    def sentence(self) -> str:
        """All of it."""
        first, *others = [f"{group.who} {group.where}" for group in self.groups]
        if self.reason == semconv.STALL_KILLED:
            first, *others = [
                f"{group.who} {group.verb} killed {group.at}" for group in self.groups
            ]
        return "; ".join([first, *(other[0].lower() + other[1:] for other in others)])

    @property
    def silent(self) -> list[int]:
        """The ranks below the highest that have said nothing; none where a number is none that jobs have."""
        said = {rank for group in self.groups for rank in group.ranks}
        highest = max(said, default=-1)
        return sorted(set(range(highest)) - said) if highest < _MOST_RANKS else []


class Said(NamedTuple):
    """What one rank has said of a stall."""

    trace_id: str
    step: int | None
    rank: int | None
    seconds: float
    reason: str
    place: str
    frames: str
    collectives: tuple[Collective, ...]
    at_s: float = 0.0  # when, since the epoch; 0 where that is not known

    @classmethod
    def of_span(cls, span: Span) -> Said:
        """Return what a rank's span says, or that of a process without a rank."""
        measured = span.measure(semconv.STALL_DURATION)
        return cls(
            span.trace_id,
            span.step,
            span.rank,
            float(span.number(semconv.STALL_DURATION) or 0) if measured is None else measured,
            span.text(semconv.STALL_REASON) or "",
            span.text(semconv.STALL_PLACE) or "",
            span.text(semconv.STALL_FRAMES) or "",
            _collectives(span.attributes.get(semconv.STALL_COLLECTIVES)),
            span.end / 1e9,
        )

    @classmethod
    def of_file(cls, left: Any) -> Said:
        """Return what a process that was killed has left behind.

        Raises:
            KeyError, TypeError, ValueError: it is none of these.
        """
        trace_id, _, rank, _ = left["shared"] or ("", "", None, False)
        return cls(
            str(trace_id),
            int(left["step"]),
            None if rank is None else int(rank),
            0.0,
            semconv.STALL_KILLED,
            str(left["place"]),
            " → ".join(map(str, left["modules"])),
            (),
        )


def stalled(said: Sequence[Said]) -> Stalled:
    """Return what ranks have said of one stall."""
    groups: dict[tuple[object, ...], list[Said]] = {}
    steps = sorted({one.step for one in said if one.step is not None})
    for one in sorted(said, key=lambda one: one.rank or 0):
        end = one.frames.rpartition(" → ")[2]
        groups.setdefault((one.place, end, one.collectives, one.step), []).append(one)
    standing = [
        RanksAtPlace(
            tuple([one.rank for one in alike if one.rank is not None]),
            alike[0].place,
            alike[0].frames,
            alike[0].collectives,
            alike[0].step if len(steps) > 1 else None,
        )
        for alike in groups.values()
    ]
    furthest: Counter[str] = Counter()
    for group in standing:
        furthest |= Counter(group.begun)
    standing.sort(key=lambda group: _behind(group, furthest))
    seconds = max(one.seconds for one in said)
    trace_ids = dict.fromkeys(one.trace_id for one in said if one.trace_id)
    return Stalled(tuple(trace_ids), tuple(steps), seconds, said[0].reason, standing)


def _collectives(lines: Any) -> tuple[Collective, ...]:
    texts = lines if isinstance(lines, (list, tuple)) else ()
    found = [_COLLECTIVE.fullmatch(line) for line in texts if isinstance(line, str)]
    return tuple(
        [
            Collective(match["group"], match["name"], int(match["number"]), bool(match["ended"]))
            for match in found
            if match is not None
        ]
    )


def _behind(group: RanksAtPlace, furthest: Mapping[str, int]) -> tuple[int, bool, int, bool, int]:
    """Return what is the larger, the further the ranks are behind the others, and last if they wait for nobody."""
    begun = group.begun
    behind = sum(furthest[name] - number for name, number in begun.items())
    return -(group.step or 0), not begun, behind, group.waits_in is None, -len(group.ranks)
