"""What tests of steps share."""

from __future__ import annotations

import gc
import sys

import pytest


@pytest.fixture
def only_own_optimizers() -> None:
    """Other tests' models are gone, and their optimizers."""
    gc.collect()


@pytest.fixture
def nothing_compiled() -> None:
    """Dynamo knows of no compilation that an earlier test made."""
    utils = sys.modules.get("torch._dynamo.utils")
    if utils is not None:
        utils.clear_compilation_metrics()
