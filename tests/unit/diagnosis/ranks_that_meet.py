"""Steps of ranks that wait for each other in collectives, of all ranks and of groups: who is late is known."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

from otel_torch_modules import semconv
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._shape import Shape, Site
from otel_torch_modules._trace import Remark, Span, Trace
from tests.unit.diagnosis.steps import START, site

EXCHANGE_MS = 0.2  # that a collective takes when all have come


class Work(NamedTuple):
    """A span of each rank's own, or what lies in none where it has no name."""

    name: str
    phase: str | None
    ms: float
    fqn: str | None = None


class Meet(NamedTuple):
    """A collective that ranks leave together: each group by itself, and who is in none passes by."""

    name: str
    groups: tuple[tuple[int, ...], ...]
    group_name: str = ""  # that all of them have; else each its own

    def of(self, rank: int) -> tuple[int, ...]:
        """Return the group that a rank meets; empty where it meets none."""
        return next((group for group in self.groups if rank in group), ())


Part = Work | Meet
Late = Mapping[tuple[int, int, int], float]
"""How many ms more a rank takes: by step, rank and number of the part, the number of parts for the time behind it."""


def steps_of(ranks: int, parts: Sequence[Part], late: Late, count: int = 30) -> list[Span]:
    """Return the spans of the ranks of so many steps, which touch each other but for who is late behind one."""
    now = [float(START)] * ranks
    spans: list[Span] = []
    for step in range(count):
        begun = list(now)
        below: list[list[_Below]] = [[] for _ in range(ranks)]
        for number, part in enumerate(parts):
            ends = _ends(part, now)
            for rank, end in enumerate(ends):
                later = end + late.get((step, rank, number), 0.0) * 1e6
                if part.name and later > now[rank]:
                    below[rank].append(_Below(_site(part, rank), now[rank], later))
                now[rank] = later
        for rank in range(ranks):
            spans.append(_step(step, rank, begun[rank], now[rank], below[rank]))
            now[rank] += late.get((step, rank, len(parts)), 0.0) * 1e6
    return spans


def run_of(ranks: int, parts: Sequence[Part], late: Late, count: int = 30) -> Run:
    return Run(steps_of(ranks, parts, late, count))


class _Below(NamedTuple):
    site: Site
    start: float
    end: float


def _ends(part: Part, now: Sequence[float]) -> list[float]:
    """Return when each rank is through with a part, which who meets nobody has not."""
    if isinstance(part, Work):
        return [time + part.ms * 1e6 for time in now]
    groups = [part.of(rank) for rank in range(len(now))]
    return [
        max(now[other] for other in group) + EXCHANGE_MS * 1e6 if group else time
        for group, time in zip(groups, now, strict=True)
    ]


@cache
def _site(part: Part, rank: int) -> Site:
    if isinstance(part, Work):
        return site(part.name, part.phase, part.fqn)
    group = part.of(rank)
    return Site(
        part.name,
        {
            semconv.PHASE: semconv.PHASE_COLLECTIVE,
            semconv.COLLECTIVE_GROUP: part.group_name or "-".join(map(str, group)),
            semconv.COLLECTIVE_GROUP_SIZE: len(group),
            semconv.COLLECTIVE_COMPLETED: True,
        },
    )


def _step(step: int, rank: int, start: float, end: float, below: Sequence[_Below]) -> Span:
    head = site(f"rank {rank}", semconv.PHASE_RANK, rank=rank)
    shape = _shape((head, *(one.site for one in below)))
    trace = Trace(
        f"{step:032x}",
        shape,
        array("Q", range(1, len(shape.sites) + 1)),
        array("Q", [0, *[1] * len(below)]),
        array("Q", map(round, [start, *(one.start for one in below)])),
        array("Q", map(round, [end, *(one.end for one in below)])),
        [f"process {rank}"] * len(shape.sites),
        {},
        {0: Remark({semconv.STEP_INDEX: step})},
    )
    return Span(trace, 0)


@cache
def _shape(sites: tuple[Site, ...]) -> Shape:
    return Shape(sites, (-1, *[0] * (len(sites) - 1)))
