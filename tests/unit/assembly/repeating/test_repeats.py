"""A record that is like an earlier one has the tree that it would have had if it had been read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_torch_modules._assembly.assembler import Assembler
from otel_torch_modules._events import COLLECTION, EXIT, MARK, NOTE, TASK, TASK_END, WIDTH, Detail
from otel_torch_modules._records import Raised, Record, SharedStep
from otel_torch_modules._site import Site
from otel_torch_modules._spans.columns import SpanColumns
from otel_torch_modules._spans.figures import StepFigures
from otel_torch_modules._spans.span import Span
from otel_torch_modules.config import Config
from tests.support.examples import examples
from tests.support.logs import Made, Module, Program, any_logs, modules
from tests.unit.assembly.test_properties import shape


class Reading(Assembler):
    """Reads every record."""

    def _find(self, record: Record) -> None:
        return None


@dataclass
class Loop:
    """What one step of a program does."""

    micro_batches: list[Module]
    together: bool
    late: bool  # the backward of the last forward comes in the next step
    fetches: bool
    optimizes: bool


def loops() -> st.SearchStrategy[Loop]:
    return st.builds(
        Loop,
        st.lists(modules(), min_size=1, max_size=2),
        st.booleans(),
        st.booleans(),
        st.booleans(),
        st.booleans(),
    )


class Training:
    """Runs steps one after the other: sequence numbers go on, and each step takes its own time."""

    def __init__(self, ticks: Iterator[int]) -> None:
        self._ticks = ticks
        self._number = 0
        self._late: list[Made] = []

    def step(self, loop: Loop) -> Record:
        program = Program(self._number, self._ticks)
        if loop.fetches:
            program.fetch()
        late, self._late = self._late, []
        made: list[Made] = []
        for module in loop.micro_batches:
            made.append(program.forward(module))
            program.number += 1  # the loss
            if late:
                program.backward(*late)
                late = []
            if not loop.together and not loop.late:
                program.backward(made[-1])
        if loop.late:
            self._late = made
        elif loop.together:
            program.backward(*made)
        if loop.optimizes:
            program.optimize()
        self._number = program.number + 3
        return program.finished()


def tree_of(tree: Span | SpanColumns) -> Span:
    return tree if isinstance(tree, Span) else tree.tree()


def ticks_from(draw: st.DataObject) -> Iterator[int]:
    pattern = draw.draw(st.lists(st.integers(1, 1_000), min_size=1, max_size=40))
    while True:
        yield from pattern


@settings(deadline=None)
@given(loops(), st.data())
def test_a_step_like_two_before_it_is_repeated_and_has_the_same_tree(
    loop: Loop, data: st.DataObject
) -> None:
    loop.late = False
    training = Training(ticks_from(data))
    assembler, reading = Assembler(Config()), Reading(Config())
    for index in range(5):
        record = training.step(loop)
        tree = assembler.assemble(record)
        assert isinstance(tree, SpanColumns) is (index >= 2)
        assert shape(tree_of(tree)) == shape(reading.assemble(record))


@settings(deadline=None)
@given(loops(), st.booleans(), st.data())
def test_what_a_repeated_step_comes_to_is_what_its_tree_says(
    loop: Loop, of_several_ranks: bool, data: st.DataObject
) -> None:
    loop.late = False
    training, assembler, figures = Training(ticks_from(data)), Assembler(Config()), StepFigures()
    heads = 2 if of_several_ranks else 1
    for index in range(5):
        record = training.step(loop)
        record.shared = SharedStep(1, 0, sent_here=True) if of_several_ranks else None
        tree = assembler.assemble(record)
        found = figures.of(tree, heads)
        again = StepFigures().of(tree_of(tree), heads)
        assert isinstance(tree, SpanColumns) is (index >= 2)
        assert found.duration == again.duration == (record.end - record.start) / 1e9
        assert found.phases == pytest.approx(again.phases)
        assert found.modules == pytest.approx(again.modules)
        assert found.modules  # a forward at least


@pytest.mark.slow
@settings(deadline=None, max_examples=examples(200))
@given(
    st.lists(loops(), min_size=1, max_size=3),
    st.lists(st.integers(0, 2), min_size=3, max_size=12),
    st.data(),
)
def test_whatever_steps_come_in_whatever_order_the_trees_are_the_same(
    pool: list[Loop], order: list[int], data: st.DataObject
) -> None:
    training = Training(ticks_from(data))
    assembler, reading = Assembler(Config()), Reading(Config())
    for place in order:
        record = training.step(pool[place % len(pool)])
        assert shape(tree_of(assembler.assemble(record))) == shape(reading.assemble(record))


@settings(deadline=None, max_examples=examples(300))
@given(st.lists(any_logs(), min_size=1, max_size=2), st.integers(2, 5))
def test_logs_that_no_recorder_writes_have_the_same_trees_too(
    logs: list[list[Any]], times: int
) -> None:
    assembler, reading = Assembler(Config()), Reading(Config())
    for log in logs * times:
        record = Record("step", 0, start=3, clock_offset=0, end=20, log=log)
        assert shape(tree_of(assembler.assemble(record))) == shape(reading.assemble(record))


@settings(deadline=None)
@given(loops(), st.data())
def test_a_link_to_a_repeated_step_is_to_the_span_that_was_sent(
    loop: Loop, data: st.DataObject
) -> None:
    """The backward of a forward that was repeated: the forward's span has the id that went out."""
    loop.late = False
    training = Training(ticks_from(data))
    assembler = Assembler(Config())
    for _ in range(3):
        columns = assembler.assemble(training.step(loop))
    assert isinstance(columns, SpanColumns)
    columns.span_ids = list(range(1, len(columns.starts) + 1))
    sent = columns.tree()
    ids = dict(zip(map(_place, sent.walk()), columns.span_ids, strict=True))
    last = Record("step", 9, start=0, clock_offset=0, end=10**9)
    numbers = range(training._number - 60, training._number)
    last.log.extend((TASK, 0, 0, 1, 0))
    for time, number in enumerate(reversed(numbers), 2):
        last.log.extend((MARK, 0, number, time, 0))
    last.log.extend((TASK_END, 0, 0, 10**8, True))
    tree = assembler.assemble(last)
    assert isinstance(tree, Span)
    linked = [span.link for span in tree.walk() if span.link is not None]
    assert [span.span_id for span in linked] == [ids[_place(span)] for span in linked]
    assert len(linked) > 0 or not any(span.kind == 3 for span in sent.walk())


def _place(span: Span) -> tuple[str, int, int]:
    return span.name, span.start, span.end


def simple(start: int, number: int = 0) -> Record:
    """A root with a child, forward and backward, and a stretch of time between any two events."""
    root, child = ROOT, CHILD
    record = Record("step", 0, start=start, clock_offset=0, end=start + 90)
    for place, event in enumerate(
        [
            (root, 0, number, True),
            (child, 0, number, True),
            (EXIT, 0, number + 2, None),
            (EXIT, 0, number + 3, None),
            (TASK, 0, 0, 0),
            (MARK, 0, number + 2, 0),
            (MARK, 0, number + 1, 0),
            (TASK_END, 0, 0, None),
            (TASK_END, 0, 0, True),
        ]
    ):
        *slots, detail = event
        record.log.extend((*slots, start + 10 * place, detail))
    return record


ROOT, CHILD = Site("Root", "Root"), Site("Root.child", "Child")


def repeated(assembler: Assembler, record: Record) -> bool:
    return isinstance(assembler.assemble(record), SpanColumns)


def taught() -> Assembler:
    assembler = Assembler(Config())
    assert [repeated(assembler, simple(1000 * at, 10 * at)) for at in range(3)] == [
        False,
        False,
        True,
    ]
    return assembler


def _training(record: Record) -> None:
    record.log[4] = False


def _thread(record: Record) -> None:
    record.log[1] = 1


def _site(record: Record) -> None:
    record.log[WIDTH] = Site("Root.child", "Child")


def _number(record: Record) -> None:
    record.log[2 * WIDTH + 2] += 1


def _error(record: Record) -> None:
    record.log[2 * WIDTH + 4] = Raised("ValueError", "", "")


def _failed(record: Record) -> None:
    record.failed = True


def _truncated(record: Record) -> None:
    record.truncated = True


def _shared(record: Record) -> None:
    record.shared = SharedStep(7, 1, sent_here=True)


def _note(record: Record) -> None:
    record.log[3 * WIDTH : 3 * WIDTH] = [NOTE, 0, "update_name", 3_025, ("x",)]


def _cut(record: Record) -> None:
    del record.log[-1]


def _order(record: Record) -> None:
    """A child that ends after its parent: the parent is stretched, which depends on the times."""
    record.log[2 * WIDTH + 3] = record.log[3 * WIDTH + 3] + 1


@pytest.mark.parametrize(
    "change",
    [_training, _thread, _site, _number, _error, _failed, _truncated, _shared, _note, _cut, _order],
)
def test_what_differs_in_more_than_times_is_read(change: Callable[[Record], None]) -> None:
    assembler, reading = taught(), Reading(Config())
    for at in range(3):
        reading.assemble(simple(1000 * at, 10 * at))
    record = simple(3_000, 30)
    change(record)
    tree = assembler.assemble(record)
    assert isinstance(tree, Span)
    assert shape(tree) == shape(reading.assemble(record))
    assert repeated(assembler, simple(4_000, 40))


def test_a_backward_that_may_reach_into_an_earlier_record_is_read() -> None:
    assembler = Assembler(Config())
    for at in range(1, 5):
        record = simple(1000 * at, 10 * at)
        record.log[6 * WIDTH + 2] = 10 * at - 9  # a node that the child of the step before made
        tree = assembler.assemble(record)
        assert isinstance(tree, Span)
        backwards = [(span.name, span.start - 1000 * at) for span in tree.walk() if span.link]
        earlier = [("backward Root", 60), ("backward child", 60)]
        assert backwards == [("backward Root", 50), *(earlier if at > 1 else [])]


def test_a_node_made_before_the_root_and_outside_of_all_calls_is_no_reason_to_read() -> None:
    assembler = Assembler(Config())
    trees = []
    for at in range(4):
        record = simple(1000 * at, 10 * at)
        record.log[6 * WIDTH + 2] = 10 * at - 1
        trees.append(assembler.assemble(record))
    assert [isinstance(tree, SpanColumns) for tree in trees] == [False, False, True, True]
    reading = Reading(Config())
    assert shape(tree_of(trees[3])) == shape(reading.assemble(record))


def test_few_patterns_are_kept() -> None:
    assembler = Assembler(Config())
    for at in range(30):
        record = simple(1000 * at, 10 * at)
        record.log[0] = Site(f"Root{at}", "Root")
        assembler.assemble(record)
    assert len(assembler._seen) == 8


def test_the_log_of_a_repeated_record_is_whole_afterwards() -> None:
    """Where a step is sent with its phases only, what passes in it is in its log still."""
    assembler = Assembler(Config())
    for at in range(4):
        record = simple(1_000 * at, 10 * at)
        record.passing = True
        event = [COLLECTION, 0, 1_000 * at + 1, 1_000 * at + 2, Detail(None, (0, 7))]
        record.log[WIDTH:WIDTH] = event
        before = record.log.copy()
        assert repeated(assembler, record) is (at >= 2)
        assert record.log == before
