"""The device's memory: nothing of ours is kept there, and a hog that leaves little of it shows."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import nn

from otel_torch_modules import Config
from otel_torch_modules.testing import capture_spans
from tests.device.training import train

pytestmark = pytest.mark.device

Busy = Callable[[float], None]
MODULES = Config(device_time="modules", device_every=1, causes=("memory",))
ALLOCATED, PEAK, RETRIES = (
    f"torch.device.memory.{name}" for name in ("allocated", "peak", "alloc_retries")
)
GIB = 1 << 30


def losses(device: torch.device, steps: int) -> list[float]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64)).to(device)
    return [float(loss) for loss in train(model, device, steps)]


def test_nothing_changes_and_nothing_grows(device: torch.device) -> None:
    untraced = losses(device, 50)
    with capture_spans(MODULES) as captured:
        assert losses(device, 50) == untraced
    allocated = [tree.attributes[ALLOCATED] for tree in captured.trees]
    # What is kept of each step is its loss.
    assert len({after - before for before, after in pairwise(allocated[10:])}) == 1
    peak = captured.trees[-1].attributes[PEAK]
    assert peak == torch.accelerator.memory_stats()["allocated_bytes.all.peak"]


def test_a_hog_makes_the_allocator_try_once_more(cuda: torch.device) -> None:
    """One step has cached what a later one would need in one piece: the cache is freed, and asked for again."""
    losses(cuda, 2)
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(cuda)
    hog = torch.empty(free - GIB, dtype=torch.uint8, device=cuda)

    class Taking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin = nn.Linear(64, 64)
            self.calls = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            size = {2: 6, 4: 8}.get(self.calls, 0) * GIB // 10
            torch.empty(size, dtype=torch.uint8, device=cuda)
            return self.lin(x)

    with capture_spans(MODULES) as captured:
        train(Taking().to(cuda), cuda, 6)
        torch.cuda.synchronize()
    del hog
    torch.cuda.empty_cache()
    assert [tree.attributes.get(RETRIES, 0) for tree in captured.trees] == [0, 0, 0, 1, 0, 0]
