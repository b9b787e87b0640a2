"""What tests of steps share."""

from __future__ import annotations

import gc

import pytest


@pytest.fixture
def only_own_optimizers() -> None:
    """Other tests' models are gone, and their optimizers."""
    gc.collect()
