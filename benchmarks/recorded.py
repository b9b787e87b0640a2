"""Records of steps of the toy model, without the worker that would assemble and send them."""

from __future__ import annotations

import torch
from contenders import _NoContext
from toy import Toy, training_step

from otel_torch_modules import Config
from otel_torch_modules._recording.recorder import Recorder
from otel_torch_modules._recording.steps import Steps
from otel_torch_modules._records import Record


def _failed() -> None:
    raise AssertionError("recording failed: see the log")


def record_steps(blocks: int, count: int) -> list[Record]:
    """Return the records of `count` steps of a model of `blocks` blocks."""
    config, records = Config(), list[Record]()
    recorder = Recorder(config)

    def keep(record: Record) -> bool:
        records.append(record)
        return True

    steps = Steps(config, recorder, _NoContext(), keep, _failed)
    train = training_step(Toy(blocks), torch.randn(2, 4, 8))
    recorder.install()
    for _ in range(count):
        with steps.step(None):
            train()
    steps.finish()
    recorder.uninstall()
    return records
