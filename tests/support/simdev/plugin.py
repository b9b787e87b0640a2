"""A pytest plugin: the tests of the process run on the simulated accelerator.

``pytest -p tests.support.simdev.plugin`` puts it on.
What tests make without naming a device is made there.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import tests.support.simdev.device  # noqa: F401  registers it


@pytest.fixture(autouse=True)
def on_the_simulated_accelerator() -> Iterator[None]:
    torch.set_default_device("sim")
    yield
    torch.set_default_device(None)
