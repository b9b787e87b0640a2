"""Logs as a recorder writes them, of programs that Hypothesis makes up, with what the tree must be.

A program is a tree of calls. Running it forward makes nodes, a number each; a backward runs the nodes from the highest
number to the lowest, with a mark wherever a call's output or input node is reached.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

from hypothesis import strategies as st

from otel_torch_modules._events import (
    DATA,
    EXIT,
    EXIT_BARE,
    MARK,
    OPTIMIZED,
    OPTIMIZER,
    TASK,
    TASK_END,
    WIDTH,
    Closing,
    Detail,
    Opening,
    Point,
    Shown,
    Slot,
    Stretch,
    Varying,
)
from otel_torch_modules._records import Record
from otel_torch_modules._site import Site

THREAD = 0

# Events that nothing but the tests knows.
SHOWN = "test"  # the phase of their spans
SIZE = Varying("test.size", int)
SHARE = Varying("test.share", float)
LABEL = Varying("test.label", str)
LASTED = Stretch("lasted", values=(SIZE, SHARE), shown=Shown("lasted ", SHOWN, said="test.what"))
BEGAN = Opening("began", Slot.SAME, shown=Shown("inside", SHOWN))
ENDED = Closing("ended", values=(LABEL,))
STRUCK = Point("struck", values=(SIZE, LABEL), said="test.what")
FREQUENT = Stretch("frequent", of_modules=True, shown=Shown("frequent", SHOWN))


@dataclass
class Module:
    """A module call to be: its children in order, each after a node of its own that this call makes."""

    site: Site
    children: list[Module] = field(default_factory=list)
    nodes: bool = True  # whether it makes nodes of its own
    checkpointed: bool = False
    saves: bool = True  # whether its own nodes need saved tensors
    happens: bool = False  # whether something else happens in it


@dataclass(eq=False)
class Made:
    """A module call that has been made."""

    module: Module
    first: int
    children: list[Made] = field(default_factory=list)
    last: int = 0  # one past the highest number

    def nodes(self) -> list[tuple[int, Made]]:
        """Return the numbers that are this call's or below it with the call that made each."""
        inner = [entry for child in self.children for entry in child.nodes()]
        taken = {number for number, _ in inner}
        own = [(n, self) for n in range(self.first, self.last) if n not in taken]
        return sorted(inner + own, key=lambda entry: entry[0])


_SITES = [Site("Root", "Root")] + [Site(f"Root.m{index}", "Module") for index in range(6)]


_ABOVE = (0, 0, 0, 0, 1, 1, 2, 3)  # a call is more often below the last one than far above it


def modules() -> st.SearchStrategy[Module]:
    """Modules with children; some of the same site, some checkpointed, some without nodes."""
    # Drawn as bytes, two for each call: a draw for each of its fields takes longer than what is tested.
    calls = st.binary(max_size=16) | st.binary(min_size=16, max_size=96)
    return st.builds(_tree, st.integers(0, 7), calls)


def _tree(root: int, calls: bytes) -> Module:
    """Return the root, which is never checkpointed, with calls below: each says how far above the last one it is."""
    around = [Module(_SITES[0], [], bool(root & 1), False, bool(root & 2), bool(root & 4))]
    for place, flags in zip(calls[::2], calls[1::2], strict=False):
        number, above = divmod(place, 8)
        del around[max(1, len(around) - _ABOVE[above]) :]
        alike = number % 4 == 3 and len(around) > 1
        site = around[-1].site if alike else _SITES[1 + number % 6]
        module = Module(site, [], *(bool(flags & 1 << bit) for bit in range(4)))
        around[-1].children.append(module)
        around.append(module)
    return around[0]


class Program:
    """Writes the log of forwards and backwards.

    Args:
        number: sequence number of the first node.
        ticks: how long it takes from one event to the next.
    """

    def __init__(self, number: int = 0, ticks: Iterator[int] | None = None) -> None:
        self.record = Record("step", 0, start=0, clock_offset=0, trace_id=1, span_id=1)
        self.log = self.record.log
        self.time = 0
        self.number = number
        self._ticks = ticks or repeat(1)

    def tick(self) -> int:
        self.time += next(self._ticks)
        return self.time

    def forward(self, module: Module) -> Made:
        """Call `module`."""
        made = Made(module, self.number)
        self.log.extend((module.site, THREAD, self.number, self.tick(), True))
        if module.happens:
            self.happen()
        for child in module.children:
            self.number += module.nodes
            made.children.append(self.forward(child))
        self.number += module.nodes
        made.last = self.number
        self.log.extend((EXIT, THREAD, self.number, self.tick(), None))
        return made

    def backward(self, *roots: Made) -> None:
        """Run the nodes of `roots`; checkpointed calls are made once more where the first saved tensor is needed."""
        self.log.extend((TASK, THREAD, 0, self.tick(), THREAD))
        recomputed: set[Made] = set()
        entries = sorted(
            (entry for root in roots for entry in root.nodes()),
            key=lambda entry: entry[0],
            reverse=True,
        )
        around = {child: made for root in roots for made, child in _edges(root)}
        previous: Made | None = None
        for number, made in entries:
            if made is not previous:
                self.log.extend((MARK, THREAD, number, self.tick(), 0))
                previous = made
            if made.module.saves:
                self._recompute(made, around, recomputed)
            self.tick()
        self.log.extend((TASK_END, THREAD, 0, self.tick(), None))
        self.log.extend((TASK_END, THREAD, 0, self.tick(), True))

    def _recompute(self, made: Made, around: dict[Made, Made], recomputed: set[Made]) -> None:
        # Only the outermost checkpoint: within its recompute the others are just called.
        checkpointed = None
        call: Made | None = made
        while call is not None:
            if call.module.checkpointed:
                checkpointed = call
            call = around.get(call)
        if checkpointed is not None and checkpointed not in recomputed:
            recomputed.add(checkpointed)
            self.forward(checkpointed.module)

    def happen(self) -> None:
        """Do what only the tests know of, with values that no other time has."""
        start = self.tick()
        size = None if self.time % 3 == 0 else self.time
        said = Detail("it", (size, self.time / 7))
        self.log.extend((LASTED, THREAD, start, self.tick(), said))
        self.log.extend((BEGAN, THREAD, 3, self.tick(), None))
        self.log.extend((STRUCK, THREAD, None, self.tick(), Detail("him", (self.time, "a"))))
        start = self.tick()
        self.log.extend((FREQUENT, THREAD, start, self.tick(), None))
        self.log.extend((ENDED, THREAD, None, self.tick(), Detail(None, (f"at {self.time}",))))

    def fetch(self) -> None:
        """Wait for a batch."""
        start = self.tick()
        self.log.extend((DATA, THREAD, start, self.tick(), None))

    def optimize(self) -> None:
        """Have an optimizer step."""
        self.log.extend((OPTIMIZER, THREAD, None, self.tick(), "SGD"))
        self.log.extend((OPTIMIZED, THREAD, None, self.tick(), None))

    def forwards_and_backwards(self, micro_batches: list[Module], *, together: bool) -> list[Made]:
        """Run each forward with its backward, or all forwards and then one backward; return the forwards."""
        made = []
        for module in micro_batches:
            made.append(self.forward(module))
            if not together:
                self.backward(made[-1])
        if together:
            self.backward(*made)
        return made

    def finished(self) -> Record:
        """Return the record."""
        self.record.end = self.tick()
        return self.record


def _edges(root: Made) -> list[tuple[Made, Made]]:
    return [edge for child in root.children for edge in ((root, child), *_edges(child))]


def any_logs() -> st.SearchStrategy[list[Any]]:
    """Logs that no recorder writes: any events in any order, cut off anywhere."""
    number = st.integers(0, 30)
    thread = st.integers(0, 2)
    tag = st.one_of(
        st.sampled_from(_SITES),
        st.sampled_from([EXIT, EXIT_BARE, MARK, TASK, TASK_END, OPTIMIZED, DATA]),
        st.sampled_from([BEGAN, ENDED, FREQUENT, STRUCK]),
    )
    detail = st.sampled_from([None, True, False, 0, 1, 2])
    event = st.one_of(
        st.tuples(tag, thread, number, number, detail),
        st.tuples(st.sampled_from([OPTIMIZER, LASTED]), thread, number, number, st.just("SGD")),
    )
    return st.builds(
        lambda events, cut: [slot for event in events for slot in event][
            : len(events) * WIDTH - cut
        ],
        st.lists(event, max_size=60),
        st.integers(0, WIDTH - 1),
    )
