"""Where a training loop fetches its batches and updates its parameters."""

from __future__ import annotations

from types import CodeType
from typing import Any

from torch.optim import Optimizer

optimizer_step_code: CodeType = Optimizer.profile_hook_step(lambda: None).__code__
"""Of the function around each optimizer's `step` that calls the hooks; its local ``self`` is the optimizer."""


def batches_given(iterator: Any) -> int:
    """Return how many batches a data loader's `iterator` has given since it began, or began anew."""
    return getattr(iterator, "_num_yielded", 0)


def index_sampler_id(iterator: Any) -> int:
    """Return what a data loader's iterators have in common."""
    return id(getattr(iterator, "_index_sampler", iterator))
