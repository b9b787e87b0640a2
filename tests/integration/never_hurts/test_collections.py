"""Recording makes no work for Python's garbage collector: no step is interrupted by a collection because of us."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from benchmarks.recorded import recording_into
from benchmarks.toy import Toy, training_step
from otel_torch_modules._records import Record

STEPS = 20  # of 123 module calls: if each left one object of its own behind, there were four collections


@contextmanager
def collections() -> Iterator[list[int]]:
    """Collect in the block the generation of each collection that was not asked for."""
    found: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            found.append(info["generation"])

    gc.collect()
    gc.callbacks.append(note)
    try:
        yield found
    finally:
        gc.callbacks.remove(note)


def during(run: Callable[[], None]) -> list[int]:
    run()  # what is made only once
    with collections() as found:
        for _ in range(STEPS):
            run()
    return found


def test_recording_sets_off_no_collection() -> None:
    train = training_step(Toy(), torch.randn(2, 4, 8))
    untraced = during(train)
    # The records are kept, as they are while the worker is busy: what they hold counts for the collector.
    records: list[Record] = []
    with recording_into(records.append) as steps:

        def step() -> None:
            with steps.step(None):
                train()

        traced = during(step)
    assert len(records) == STEPS + 1
    assert traced == untraced == []
