"""The device's clock and ours: told from each other in each step, however long the program has run."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch

from otel_torch_modules import Config
from otel_torch_modules._recording.device_events import DeviceEvents
from otel_torch_modules._records import Record
from otel_torch_modules.schedule import Schedule
from otel_torch_modules.testing import CapturedSpan, capture_spans
from tests.device.training import train, two_blocks

pytestmark = pytest.mark.device

Busy = Callable[[float], None]
LAG, CLOCK_ERROR = "torch.device.lag", "torch.device.clock_error"
APART = 100e-6  # s
STEPS = 50


def lag(span: CapturedSpan) -> float:
    found = span.attributes[LAG]
    assert isinstance(found, float)
    return found


def lag_of_idle_device(busy: Busy, device: torch.device) -> tuple[float, object]:
    """Return how far a device was behind that has nothing to do, and by how much the clocks may be apart (s)."""
    model = two_blocks(busy, device)
    train(model, device, 2)
    torch.accelerator.synchronize()
    with capture_spans() as captured:
        train(model, device, 1)
        torch.accelerator.synchronize()
    (tree,) = captured.trees
    (forward,) = tree.find("forward Sequential")
    return lag(forward), tree.attributes[CLOCK_ERROR]


def test_the_clock_of_the_device_is_told_from_ours(busy: Busy, device: torch.device) -> None:
    """Also when it has gone wrong for a while: simulated, by 1 ms in 2 s; a real one in two minutes by what it does."""
    print("at first", lag_of_idle_device(busy, device))
    if device.type == "cuda":
        time.sleep(120)
    else:
        from tests.support.simdev import device as simdev

        simdev.set_clock(drift=500, tick=500)
        time.sleep(2)
    behind, apart = lag_of_idle_device(busy, device)
    print("later", behind, apart)
    assert 0 <= behind < APART


def test_the_lag_grows_with_the_queue_and_goes_when_the_program_waits(
    busy: Busy, device: torch.device
) -> None:
    model = two_blocks(busy, device)
    train(model, device, 2)
    torch.accelerator.synchronize()
    with capture_spans(Config()) as captured:
        *_, loss = train(model, device, STEPS)
        loss.item()
        train(model, device, 1)
        torch.accelerator.synchronize()
    lags = [lag(tree.find("forward Sequential")[0]) for tree in captured.trees]
    assert len(lags) == STEPS + 1
    assert all(before < after for before, after in pairwise(lags[:STEPS]))
    assert lags[STEPS - 1] > 0.5
    assert lags[STEPS] < APART


def test_the_reference_passes_while_the_program_s_streams_are_busy(
    busy: Busy, device: torch.device
) -> None:
    record = Record("step", 0, 0, 0)
    busy(0.2)
    here = torch.accelerator.current_stream().record_event()
    DeviceEvents(None, Schedule()).step_opens(record)
    while not record.stamps._reference.query():
        assert not here.query()
    assert not here.query()
    torch.accelerator.synchronize()
