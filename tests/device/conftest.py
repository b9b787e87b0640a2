"""What the tests of a real device share. They are left out unless asked for: ``pytest -m device tests/device``.

With ``-p tests.support.simdev.plugin`` those that need nothing of CUDA run on the simulated accelerator.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

_CYCLES = 10_000_000


@pytest.fixture(scope="session")
def device() -> torch.device:
    """The accelerator of this machine."""
    found = torch.accelerator.current_accelerator()
    if found is None or not torch.accelerator.is_available():
        pytest.skip("there is no accelerator on this machine")
    torch.ones(1, device=found)  # begins to use it
    return found


@pytest.fixture(scope="session")
def cuda(device: torch.device) -> torch.device:
    """The same, which is one of CUDA's."""
    if device.type != "cuda":
        pytest.skip(f"this is about CUDA, and the accelerator is {device.type}")
    return device


@pytest.fixture(scope="session")
def busy(device: torch.device) -> Callable[[float], None]:
    """Return what keeps the current stream busy for so many seconds, and returns at once."""
    if device.type != "cuda":
        from tests.support.simdev.device import launch

        return lambda seconds: launch(round(seconds * 1e9))
    begin, end = (torch.Event(device, enable_timing=True) for _ in range(2))
    torch.cuda._sleep(_CYCLES)  # the clock rises while it works
    begin.record()
    torch.cuda._sleep(_CYCLES)
    end.record()
    end.synchronize()
    cycles = _CYCLES / (begin.elapsed_time(end) / 1e3)
    return lambda seconds: torch.cuda._sleep(round(seconds * cycles))
