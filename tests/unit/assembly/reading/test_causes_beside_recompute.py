"""What takes time beside modules counts once, wherever it comes in a backward with recompute, and in what thread."""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise, repeat
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_torch_modules._assembly.assembler import Assembler
from otel_torch_modules._events import COLLECTION, COMPILATION, EXIT, WIDTH, Detail, Stretch
from otel_torch_modules._records import Record
from otel_torch_modules._site import Site
from otel_torch_modules._spans.span import SECOND, SELF_TIME, Span
from otel_torch_modules.config import Config
from tests.support.logs import BEGAN, ENDED, THREAD, Module, Program, modules
from tests.unit.assembly.repeating.test_repeats import tree_of
from tests.unit.assembly.test_properties import check_structure

TICK = 16
ANOTHER_THREAD = -1

ROOT, BLOCK = Site("Root", "Module"), Site("Root.block", "Module")


SPAN_NAMES = {
    "compile": "compile",
    "gc": "python.gc",
    "gc elsewhere": "python.gc",
    "opened": "inside",
}


def put_into(record: Record, chosen: list[tuple[int, str]]) -> None:
    """Let something of each kind last in the middle of the gap between two events that each number means."""
    log = record.log
    begins = [log[place + 2] for place in range(0, len(log), WIDTH) if type(log[place]) is Stretch]
    times = sorted({record.start, *begins, *log[3::WIDTH], record.end})
    gaps = [
        (start, end)
        for start, end in pairwise(times)
        if end - start >= TICK and start not in begins  # nothing opens while a stretch lasts
    ]
    kinds = {number % len(gaps): kind for number, kind in chosen}
    for number, kind in sorted(kinds.items(), reverse=True):
        start, end = gaps[number][0] + 4, gaps[number][1] - 4
        place = WIDTH * bisect_left(log[3::WIDTH], end)
        log[place:place] = EVENTS[kind](start, end)


VALUES = len(COMPILATION.values)
EVENTS: dict[str, Any] = {
    "compile": lambda start, end: [COMPILATION, THREAD, start, end, Detail(None, (None,) * VALUES)],
    "gc": lambda start, end: [COLLECTION, THREAD, start, end, Detail(None, (2, 100))],
    "gc elsewhere": lambda start, end: [
        *(COLLECTION, ANOTHER_THREAD, start, end, Detail(None, (2, 100)))
    ],
    "opened": lambda start, end: [
        *(BEGAN, THREAD, 0, start, None),
        *(ENDED, THREAD, 0, end, Detail(None, ("",))),
    ],
}


def check_times(root: Span) -> None:
    check_structure(root)
    for span in root.walk():
        for before, after in pairwise(span.children):
            assert before.end <= after.start, (before, after)


@given(
    st.lists(modules(), min_size=1, max_size=2),
    st.lists(st.tuples(st.integers(0, 200), st.sampled_from([*EVENTS])), min_size=1, max_size=4),
)
def test_siblings_do_not_overlap(
    micro_batches: list[Module], chosen: list[tuple[int, str]]
) -> None:
    program = Program(ticks=repeat(TICK))
    program.forwards_and_backwards(micro_batches, together=False)
    record = program.finished()
    put_into(record, chosen)
    root = Assembler(Config()).assemble(record)
    assert isinstance(root, Span)
    check_times(root)


def checkpointed_step(number: int, kind: str) -> Record:
    """Return a step whose block is computed again, right after which something happens."""
    program = Program(number, ticks=repeat(TICK))
    program.backward(program.forward(Module(ROOT, [Module(BLOCK, checkpointed=True)])))
    record = program.finished()
    log = record.log
    tags = log[::WIDTH]
    recomputed = len(tags) - tags[::-1].index(EXIT)
    start, end = log[recomputed * WIDTH - 2] + 4, log[recomputed * WIDTH - 2] + 12
    log[recomputed * WIDTH : recomputed * WIDTH] = EVENTS[kind](start, end)
    record.passing = kind.startswith("gc")
    return record


@pytest.mark.parametrize("kind", [*EVENTS])
def test_what_comes_after_a_recompute_is_below_the_module_that_goes_on(kind: str) -> None:
    assembler = Assembler(Config())
    for index in range(4):
        tree = tree_of(assembler.assemble(checkpointed_step(index * 100, kind)))
        check_times(tree)
        [found] = [span for span in tree.walk() if span.name == "backward block"]
        assert [span.name for span in found.children] == ["recompute block", SPAN_NAMES[kind]]
        left = found.end - found.start - sum(span.end - span.start for span in found.children)
        assert found.said[SELF_TIME] == left / SECOND
