"""What is taken of torch for `loop.py` does what is said of it: a version that lacks a name says which."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch.utils.data import DataLoader, get_worker_info

from otel_torch_modules._recording.torch_private.loop import (
    LOADER_ITERATOR,
    batches_given,
    data_worker,
    index_sampler_id,
    optimizer_step_code,
)
from tests.support.autograd_nodes import leaf


def test_optimizer_step_code() -> None:
    frames = []
    optimizer = torch.optim.SGD([leaf()], lr=0.1)

    def closure() -> None:
        frame = inspect.currentframe()
        while frame is not None:
            if frame.f_code is optimizer_step_code:
                frames.append(frame.f_locals["self"])
            frame = frame.f_back

    optimizer.step(closure)
    assert frames == [optimizer]


def told(_: object) -> bool:
    return data_worker._worker_info is get_worker_info() is not None


def test_data_worker() -> None:
    assert data_worker._worker_info is None
    loader = DataLoader([0], num_workers=1, collate_fn=told)  # type: ignore[arg-type]
    assert [*loader] == [True]


def test_batches_given() -> None:
    iterator = iter(DataLoader([0, 1, 2]))  # type: ignore[arg-type]
    next(iterator)
    next(iterator)
    assert batches_given(iterator) == 2
    assert batches_given(object()) == 0


def test_index_sampler_id() -> None:
    loader, other = DataLoader([0]), DataLoader([0])  # type: ignore[arg-type]
    first = index_sampler_id(iter(loader))
    assert index_sampler_id(iter(loader)) == first
    assert index_sampler_id(iter(other)) != first


@pytest.mark.parametrize("workers", [0, 1])
def test_loader_iterator(workers: int) -> None:
    iterator = iter(DataLoader([0], num_workers=workers))  # type: ignore[arg-type]
    assert isinstance(iterator, LOADER_ITERATOR)
    assert type(iterator).__next__ is LOADER_ITERATOR.__next__
