"""Steps of any form, made up: what each format is tried on, and what has to be found in it again."""

from __future__ import annotations

import struct
from array import array
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from otel_torch_modules import semconv
from otel_torch_modules._diagnosis import series
from otel_torch_modules._pictures.titles import title
from otel_torch_modules._shape import Shape, Site
from otel_torch_modules._trace import Remark, Span, Trace

START = 1_700_000_000_000_000_000
RUN_NS = 1 << 40  # at most, so that no two steps are in each other's way unless they are to be
NAMES = ("attn", "mlp", "ü;m l</script>", "c_proj")
PHASES = ("forward", "backward", "recompute", "optimizer", None)


def site(name: str, phase: str | None, fqn: str | None = None, rank: int | None = None) -> Site:
    about: dict[str, Any] = {semconv.PHASE: phase} if phase else {}
    if fqn:
        about |= {semconv.MODULE_FQN: fqn, semconv.MODULE_CLASS: fqn.rpartition(".")[2].upper()}
    if rank is not None:
        about[semconv.DISTRIBUTED_RANK] = rank
    return Site(name, about)


MODULES = [
    site(f"{phase} {name}", phase, f"GPT.{name}") for phase in PHASES[:3] for name in NAMES
] + [site(name, phase) for name in NAMES for phase in (*PHASES[3:], "data")]
OURS = [about for about in MODULES if about.phase is not None]
STEP = site("train.step", "step")
RANKS = [site(f"rank {rank}", "rank", rank=rank) for rank in range(3)]


class Made:
    """A trace that is being made."""

    def __init__(self) -> None:
        self.sites: list[Site] = []
        self.parents: list[int] = []
        self.starts: list[int] = []
        self.ends: list[int] = []

    def add(self, parent: int, about: Site, start: int, end: int) -> int:
        self.sites.append(about)
        self.parents.append(parent)
        self.starts.append(start)
        self.ends.append(end)
        return len(self.sites) - 1

    def root(self, number: int, links: list[tuple[int, int]]) -> Span:
        ids = [(number + 1) * 10_000 + at for at in range(len(self.sites))]
        linked = dict(links)
        trace = Trace(
            f"{number + 1:032x}",
            Shape((*self.sites,), (*self.parents,)),
            array("Q", ids),
            array("Q", [0 if parent < 0 else ids[parent] for parent in self.parents]),
            array("Q", self.starts),
            array("Q", self.ends),
            ["host-1"] * len(ids),
            {semconv.SELF_TIME: array("d", [0.5] * len(ids))},
            {
                at: Remark({semconv.STEP_INDEX: number})
                for at, about in enumerate(self.sites)
                if about.phase in ("step", "rank")
            },
            array("Q", [ids[linked[at]] if at in linked else 0 for at in range(len(ids))]),
        )
        return Span(trace, 0)


_OF_A_SPAN = st.binary(min_size=7, max_size=7)


@st.composite
def runs(
    draw: st.DrawFn, *, overlapping: bool, most: int = 12, places: Sequence[Site] = MODULES
) -> list[Span]:
    """Return steps in order of time, of spans of some places.

    `overlapping`: spans beside each other may be open at the same time, steps too.
    """
    steps: list[Span] = []
    now = START
    for number in range(draw(st.integers(1, 3))):
        made = Made()
        length = draw(st.integers(0, 1_000_000))
        root = made.add(-1, STEP, now, now + length)
        if draw(st.booleans()):
            for rank in RANKS:
                top = made.add(root, rank, now, now + length)
                _grow(draw, made, top, draw(st.integers(0, most)), overlapping, places)
        else:
            _grow(draw, made, root, draw(st.integers(0, most)), overlapping, places)
        pairs = st.tuples(*[st.integers(0, len(made.sites) - 1)] * 2)
        steps.append(made.root(number, draw(st.lists(pairs, max_size=6))))
        now += draw(st.integers(0, length)) if overlapping else length + draw(st.integers(0, 9999))
    return steps


def _grow(
    draw: st.DrawFn, made: Made, top: int, count: int, overlapping: bool, places: Sequence[Site]
) -> None:
    """Put spans below one; those of a tree are numbered from the root down, siblings in order of time."""
    waiting = [(top, count)]
    while waiting:
        parent, left = waiting.pop()
        if parent >= 0 and left:
            start, end = made.starts[parent], made.ends[parent]
            earliest = start
            last = [at for at, above in enumerate(made.parents) if above == parent]
            if last:
                earliest = made.starts[last[-1]] if overlapping else made.ends[last[-1]]
            # In one draw: one for each of them takes longer than writing the span.
            after, lasting, about, over, below = struct.unpack(">HHBBB", draw(_OF_A_SPAN))
            begin = earliest + (end - earliest) * after // 0xFFFF
            over = overlapping and over % 2
            within = begin + max(0, end - begin) * lasting // 0xFFFF
            module = places[about % len(places)]
            child = made.add(parent, module, begin, end + 50 if over else within)
            below %= left
            waiting += [(parent, left - 1 - below), (child, below)]


def own_times(roots: list[Span]) -> dict[str, int]:
    """Return the own time in ns of all spans by title, as `why` has it."""
    sums: defaultdict[str, int] = defaultdict(int)
    for root in roots:
        for span, own in zip(root.walk(), series.own_times(root), strict=True):
            sums[title(span.site)] += own
    return {name: own for name, own in sums.items() if own}


def own_times_of_ours(roots: list[Span]) -> dict[str, int]:
    """Return the same, reckoned from the spans themselves; none of them may be the program's."""
    sums: defaultdict[str, int] = defaultdict(int)
    for root in roots:
        for span in root.walk():
            own = span.duration
            for child in span.children:
                own -= max(min(child.end, span.end) - max(child.start, span.start), 0)
            sums[title(span.site)] += max(own, 0)
    return {name: own for name, own in sums.items() if own}


def spans_of(roots: list[Span]) -> list[tuple[str, int, int, str | None, int | None]]:
    """Return what any timeline says of each span: name, begin, end, module, and of a step its number."""
    return sorted(
        (
            (span.name, span.start, span.end, span.site.fqn, span.step)
            for root in roots
            for span in root.walk()
        ),
        key=repr,
    )


def flows_of(roots: list[Span]) -> list[tuple[str, int, str, int]]:
    """Return name and begin of the spans that each link joins."""
    found = []
    for root in roots:
        by_id = {span.span_id: span for span in root.walk()}
        for span in by_id.values():
            if span.link_id:
                forward = by_id[span.link_id]
                found.append((forward.name, forward.start, span.name, span.start))
    return sorted(found)


def rows_of(roots: list[Span]) -> list[tuple[str, str]]:
    """Return process and phase of each span: the track that it belongs to."""
    found = []
    for root in roots:
        has_ranks = len(root.ranks) > 0
        stack = [(root, "job" if has_ranks else "process host-1", "program")]
        while stack:
            span, process, phase = stack.pop()
            if span.rank is not None:
                process, phase = f"rank {span.rank}", "step"
            elif span.phase is not None:
                phase = span.phase
            found.append((process, phase))
            stack += [(child, process, phase) for child in span.children]
    return sorted(found)
