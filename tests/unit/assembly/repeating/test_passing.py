"""What comes and goes leaves a step like those before it, and is where it would be had the step been read."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_torch_modules._assembly.assembler import Assembler
from otel_torch_modules._events import COLLECTION, COLLECTIVE, LOOP_CALL, WIDTH, Detail, Stretch
from otel_torch_modules._records import STEP_EXPOSED, Record
from otel_torch_modules._spans.columns import SpanColumns
from otel_torch_modules._spans.figures import StepFigures
from otel_torch_modules._spans.span import Span
from otel_torch_modules.config import Config
from tests.support.logs import Module, Program, modules
from tests.unit.assembly.repeating.test_repeats import (
    Loop,
    Reading,
    Training,
    loops,
    ticks_from,
    tree_of,
)
from tests.unit.assembly.test_properties import check_structure, shape


def put_some_into(record: Record, data: st.DataObject) -> None:
    """Let garbage be collected, or the loop call something, between two of its events; one may hold the other.

    Or let a collective be launched there, which may go on beyond.
    """
    log = record.log
    times = log[3::WIDTH]
    begins = [log[place + 2] for place in range(0, len(log), WIDTH) if type(log[place]) is Stretch]
    known = sorted({record.start, *begins, *times, record.end})
    gaps = [
        (bisect_left(times, end), start, end) for start, end in pairwise(known) if end - start >= 8
    ]
    chosen = data.draw(st.lists(st.sampled_from(gaps), max_size=4, unique=True)) if gaps else []
    for place, start, end in sorted(chosen, reverse=True):  # so that places stay
        events = log[:WIDTH] if place == 0 else log[(place - 1) * WIDTH :]
        thread = data.draw(st.sampled_from([events[1], -1]))
        found: list[Any] = []
        if data.draw(st.booleans()):
            begin = start + data.draw(st.sampled_from([1, 4]))  # before the others, or inside them
            done = data.draw(st.none() | st.integers(begin + 1, record.end + 8))
            waited = data.draw(st.sampled_from([None, False, True]))
            values = (8, "torch.float32", "default_pg", 4, waited, None if done is None else [done])
            found += [COLLECTIVE, events[1], begin, begin + 1, Detail("all_reduce", values)]
        if data.draw(st.booleans()):
            found += [COLLECTION, thread, start + 3, end - 3, Detail(None, (2, 100))]
        if data.draw(st.booleans()):
            found += [LOOP_CALL, thread, start + 2, end - 2, "zero_grad"]
        log[place * WIDTH : place * WIDTH] = found
        record.passing |= bool(found)


def recomputes(module: Module) -> bool:
    return module.checkpointed or any(map(recomputes, module.children))


def forward_alone(module: Module, number: int, data: st.DataObject) -> Record:
    """A root's forward in no step, some time after its record begins."""
    program = Program(number, ticks_from(data))
    program.record.kind, program.record.site = "eval", module.site
    program.tick()
    program.forward(module)
    return program.finished()


def exposed(root: Span) -> list[Any]:
    return [span.said.get(STEP_EXPOSED) for span in root.walk()]


def name(span: Span) -> str:
    return span.name


@given(loops(), st.booleans(), st.data())
def test_a_step_is_repeated_all_the_same(loop: Loop, only_later: bool, data: st.DataObject) -> None:
    loop.late = False
    training = Training(ticks_from(data))
    assembler, reading, figures = Assembler(Config()), Reading(Config()), StepFigures()
    for index in range(5):
        record = training.step(loop)
        if index >= 2 or not only_later:
            put_some_into(record, data)
        to_read = replace(record, log=record.log.copy())
        tree = assembler.assemble(record)
        assert isinstance(tree, SpanColumns) is (index >= 2)
        root = tree_of(tree)
        read = reading.assemble(to_read)
        if any(
            map(recomputes, loop.micro_batches)
        ):  # reading looks at what is open, and moves that
            check_structure(root)
            assert sorted(map(name, root.walk())) == sorted(map(name, read.walk()))
        else:
            assert shape(root) == shape(read)
            assert exposed(root) == exposed(read)
        found, again = figures.of(tree, 1), StepFigures().of(root, 1)
        assert found.phases == pytest.approx(again.phases)
        assert found.modules == pytest.approx(again.modules)


@given(modules(), st.data())
def test_a_forward_alone_holds_what_happened_in_its_record(
    module: Module, data: st.DataObject
) -> None:
    assembler, reading = Assembler(Config()), Reading(Config())
    for index in range(5):
        record = forward_alone(module, index * 100, data)
        put_some_into(record, data)
        to_read = replace(record, log=record.log.copy())
        tree = assembler.assemble(record)
        assert isinstance(tree, SpanColumns) is (index >= 2)
        root = tree_of(tree)
        check_structure(root)
        assert shape(root) == shape(reading.assemble(to_read))
