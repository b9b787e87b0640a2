"""What most loops train."""

from __future__ import annotations

import pytest
import torch

from tests.support.small_training import Net


@pytest.fixture
def model() -> Net:
    return Net()


@pytest.fixture
def sgd(model: Net) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=0.01)
