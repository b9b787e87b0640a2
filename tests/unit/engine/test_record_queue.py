"""The queue of records: bounded by memory, and what has to go goes in the order of its worth."""

from __future__ import annotations

import random
import sys

import pytest
import torch
from torch import nn

from otel_torch_modules._engine import record_queue
from otel_torch_modules._engine.record_queue import RecordQueue
from otel_torch_modules._events import EXIT
from otel_torch_modules._records import Record
from otel_torch_modules._site import Site

SITE = Site("Net", "Net")
CHILD = Site("Net.fc", "Linear")
PHASES = [SITE, 0, 0, 1, True, EXIT, 0, 9, 9, None]
MODULES = [*PHASES[:5], *(CHILD, 0, 1, 2, True, EXIT, 0, 3, 4, None) * 20, *PHASES[5:]]


def step(index: int, log: list[object] = MODULES) -> Record:
    return Record("step", index, 0, 0, log=list(log))


def evaluation(index: int) -> Record:
    return Record("eval", index, 0, 0, log=list(PHASES))


def room_for(*records: Record) -> int:
    """Return the bytes that these take."""
    slots = [record_queue._SLOTS_PER_RECORD + len(record.log) for record in records]
    return sum(slots) * record_queue._BYTES_PER_SLOT


def drained(queue: RecordQueue) -> list[tuple[str, int | None, int]]:
    taken = []
    while (record := queue.take()) is not None:
        taken.append((record.kind, record.index, len(record.log)))
    return taken


@pytest.fixture
def lost() -> list[str]:
    return []


def test_records_come_out_in_the_order_in_which_they_went_in(lost: list[str]) -> None:
    queue = RecordQueue(1 << 20, lambda record: lost.append(record.kind))
    draw = random.Random(0)
    records = [draw.choice([step, evaluation])(index) for index in range(50)]
    assert all(queue.put(record) for record in records)
    assert len(queue) == 50
    assert queue.bytes == room_for(*records)
    assert drained(queue) == [(r.kind, r.index, len(r.log)) for r in records]
    assert (len(queue), queue.bytes, lost) == (0, 0, [])


def test_evaluations_go_first_then_modules_then_whole_steps(lost: list[str]) -> None:
    first = [step(0), evaluation(1), step(2), evaluation(3)]
    queue = RecordQueue(room_for(*first), lambda record: lost.append(record.kind))
    assert all(queue.put(record) for record in first)
    outcome = []
    for index in range(4, 30):
        taken = queue.put(step(index, PHASES))
        outcome.append((taken, lost.count("eval"), [len(first[0].log), len(first[2].log)]))
    whole, cut = len(MODULES), len(PHASES)
    stages = [(evals, logs) for taken, evals, logs in outcome if taken]
    assert stages == sorted(stages, key=lambda stage: (stage[0], -sum(stage[1])))
    assert stages[0] == (1, [whole, whole])
    assert stages[-1] == (2, [cut, cut])
    assert [taken for taken, _, _ in outcome] == sorted((t for t, _, _ in outcome), reverse=True)
    assert outcome[-1][0] is False
    assert queue.bytes <= queue.capacity
    assert (first[0].truncated, first[0].phases_only) == (True, True)
    dropped = lost.count("step")
    assert drained(queue) == [
        ("step", 0, cut),
        ("step", 2, cut),
        *(("step", index, cut) for index in range(4, 30 - dropped)),
    ]
    assert queue.bytes == 0


def test_an_evaluation_takes_the_place_of_nothing(lost: list[str]) -> None:
    queue = RecordQueue(room_for(step(0), evaluation(0)), lambda record: lost.append(record.kind))
    assert [queue.put(step(0)), queue.put(evaluation(1)), queue.put(evaluation(2))] == [
        True,
        True,
        False,
    ]
    assert lost == ["eval"]
    assert [index for _, index, _ in drained(queue)] == [0, 1]


def test_the_bound_holds_whatever_comes_and_goes(lost: list[str]) -> None:
    draw = random.Random(1)
    queue = RecordQueue(
        room_for(*(step(0) for _ in range(5))), lambda record: lost.append(record.kind)
    )
    put, taken, last = 0, 0, -1
    for index in range(2_000):
        if draw.random() < 0.4:
            record = queue.take()
            if record is not None:
                taken += 1
                assert record.index is not None
                assert record.index > last
                last = record.index
        else:
            log = draw.choice([MODULES, PHASES, []])
            put += 1
            queue.put(draw.choice([step(index, log), evaluation(index)]))
        assert queue.bytes <= queue.capacity
    taken += len(drained(queue))
    assert queue.bytes == 0
    assert put == taken + len(lost)


def test_a_slot_is_counted_as_what_it_takes() -> None:
    """Measured over the log of real steps: the list, and the numbers that belong to it alone."""
    from otel_torch_modules._assembly.assembler import Assembler
    from otel_torch_modules.testing import capture_spans

    records: list[Record] = []
    assemble = Assembler.assemble

    def keep(self: Assembler, record: Record) -> object:
        records.append(record)
        return assemble(self, record)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Assembler, "assemble", keep)
        model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(50)))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with capture_spans():
            for _ in range(3):
                model(torch.ones(2, 4)).sum().backward()
                optimizer.step()
    log = records[-1].log
    own = sum(sys.getsizeof(item) for item in log if type(item) is int and item > 256)
    per_slot = (sys.getsizeof(log) + own) / len(log)
    assert per_slot == pytest.approx(record_queue._BYTES_PER_SLOT, rel=0.25)
