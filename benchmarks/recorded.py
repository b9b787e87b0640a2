"""Recording without the worker that assembles and sends: the one place that reaches into the package for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from benchmarks.toy import Toy, training_step
from otel_torch_modules import Config
from otel_torch_modules._recording.recorder import Recorder
from otel_torch_modules._recording.steps import Steps
from otel_torch_modules._records import Record


class _NoContext:
    """A step context that makes nothing current."""

    def open(self, record: Record) -> bool:
        return True

    def attach(self, record: Record) -> None:
        pass

    def detach(self, record: Record) -> None:
        pass


def _failed() -> None:
    raise AssertionError("recording failed: see the log")


@contextmanager
def recording_into(submit: Callable[[Record], object]) -> Iterator[Steps]:
    """Record what runs in the block; finished records go to `submit`, on the training thread."""
    config = Config()
    recorder = Recorder(config)
    steps = Steps(config, recorder, _NoContext(), submit, _failed)
    recorder.install()
    try:
        yield steps
        steps.finish()
    finally:
        recorder.uninstall()


def record_steps(blocks: int, count: int) -> list[Record]:
    """Return the records of `count` steps of a model of `blocks` blocks."""
    records: list[Record] = []
    train = training_step(Toy(blocks), torch.randn(2, 4, 8))
    with recording_into(records.append) as steps:
        for _ in range(count):
            with steps.step(None):
                train()
    return records
