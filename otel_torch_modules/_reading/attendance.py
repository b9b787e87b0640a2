"""Which ranks of a job are there, in which steps: one whose spans do not come says nothing of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import count, islice
from typing import Any

from otel_torch_modules import semconv
from otel_torch_modules._grammar import agree, counted, first_of
from otel_torch_modules._shape import Shape
from otel_torch_modules._trace import Span

_MOST = 3  # that are named


class Attendance:
    """The ranks of the steps that it has been shown.

    Of a step that is there several times, as a job was started again, a rank is there if it is in one of them.
    """

    def __init__(self) -> None:
        self._bits: dict[int, int] = {}  # by rank
        self._present: dict[int, int] = {}  # bits of ranks, by the number of a step
        # Of the job, by the number of a step, where a process says it.
        self._sizes: dict[int, int] = {}

    def take(self, steps: Iterable[Span], resources: Mapping[str, Mapping[str, Any]]) -> None:
        """Look at steps, and at what their processes say of themselves."""
        known: dict[tuple[Shape, int], int] = {}  # steps that look alike have the same ranks
        for step in steps:
            number, place = step.step, (step.shape, step.at)
            if place not in known:
                known[place] = self._ranks_of(step)
            if number is None or not known[place]:
                continue
            self._present[number] = self._present.get(number, 0) | known[place]
            size = resources.get(step.process, {}).get(semconv.DISTRIBUTED_WORLD_SIZE)
            if isinstance(size, int):
                self._sizes[number] = max(self._sizes.get(number, 0), size)

    def _ranks_of(self, step: Span) -> int:
        found = 0
        for head in step.ranks:
            if head.rank is not None:
                found |= self._bits.setdefault(head.rank, 1 << len(self._bits))
        return found

    @property
    def world_size(self) -> int:
        """How many ranks the job has, by what its processes say; by the ranks that are there if these are more."""
        return max(len(self._bits), *self._sizes.values(), 0)

    def gaps(self) -> Iterator[str]:
        """Yield where ranks are missing that are there in other steps."""
        missing = self._missing()
        if missing:
            most = sorted(missing, key=lambda rank: (-len(missing[rank]), rank))[:_MOST]
            of = f" of {counted(len(self._present), 'step')}"
            said = ", ".join(
                f"rank {rank}{'' if at else ' is missing'} in {len(missing[rank])}{'' if at else of} "
                f"({first_of(missing[rank], _MOST)})"
                for at, rank in enumerate(most)
            )
            others = len(missing) - len(most)
            yield said + (f", {counted(others, 'other rank')} in no more" if others else "")

    def absent(self) -> Iterator[str]:
        """Yield which ranks of the job are in no step, where several are there: who reads one rank's file knows."""
        size, known = self.world_size, len(self._bits)
        if known > 1 and size > known:
            first = islice(
                (rank for rank in count() if rank not in self._bits), min(_MOST, size - known)
            )
            named = ", ".join(map(str, first)) + (" …" if size - known > _MOST else "")
            yield f"steps of {known} of the job's {size} ranks, none of {agree(size - known, 'rank', 'ranks')} {named}"

    def _missing(self) -> dict[int, list[int]]:
        """Return the numbers of the steps in which a rank is missing, by rank."""
        found: dict[int, list[int]] = {}
        everybody = (1 << len(self._bits)) - 1
        for number, present in sorted(self._present.items()):
            if present != everybody:
                size = self._sizes.get(number)
                for rank, bit in self._bits.items():
                    if not present & bit and (size is None or rank < size):
                        found.setdefault(rank, []).append(number)
        return found
