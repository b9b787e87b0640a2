"""Where a training loop fetches its batches and updates its parameters."""

from __future__ import annotations

from types import CodeType
from typing import Any, Final

from torch.optim import Optimizer
from torch.utils.data._utils import worker
from torch.utils.data.dataloader import _BaseDataLoaderIter

optimizer_step_code: CodeType = Optimizer.profile_hook_step(lambda: None).__code__
"""Of the function around each optimizer's `step` that calls the hooks; its local ``self`` is the optimizer."""

LOADER_ITERATOR: Final = _BaseDataLoaderIter
"""Whose ``__next__`` gives a loop each batch of a data loader."""


data_worker: Final[Any] = worker
"""Its ``_worker_info`` is what `get_worker_info` returns, after one more function."""
data_worker._worker_info  # noqa: B018 - it is there


def batches_given(iterator: Any) -> int:
    """Return how many batches a data loader's `iterator` has given since it began, or began anew."""
    return getattr(iterator, "_num_yielded", 0)


def index_sampler_id(iterator: Any) -> int:
    """Return what a data loader's iterators have in common."""
    return id(getattr(iterator, "_index_sampler", iterator))
