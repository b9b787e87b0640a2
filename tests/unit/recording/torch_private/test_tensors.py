"""What is taken of torch for `tensors.py` does what is said of it: a version that lacks a name says which."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from otel_torch_modules._recording.torch_private.tensors import (
    plain_sizes,
    pytree_flattener,
    torch_function_modes,
    versions_of,
    without_torch_function,
)


def test_torch_function_modes() -> None:
    class Mode(TorchFunctionMode):
        pass

    before = torch_function_modes()
    with Mode():
        assert torch_function_modes() == before + 1
    assert torch_function_modes() == before


def test_versions_of() -> None:
    with torch.inference_mode():
        uncounted = torch.ones(1)
    tensor, other = torch.ones(1), torch.ones(1)
    tensor += 1
    assert versions_of([uncounted, tensor, other]) == {id(tensor): 1, id(other): 0}


def test_pytree_flattener() -> None:
    flatten = pytree_flattener(dict)
    assert flatten is not None
    assert list(flatten({"a": 1, "b": 2})[0]) == [1, 2]
    assert pytree_flattener(int) is None


class SeesAll(TorchFunctionMode):
    """Sees what is asked of tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.seen.append(function)
        return function(*args, **(kwargs or {}))


def test_without_torch_function() -> None:
    tensor = torch.ones(1)
    with SeesAll() as mode:
        assert tensor.requires_grad is False
        assert len(mode.seen) == 1
        with without_torch_function():
            assert tensor.requires_grad is False
    assert len(mode.seen) == 1


def test_plain_sizes() -> None:
    sizes: list[Any] = []

    def looks(tensor: Tensor) -> Tensor:
        sizes.append(type(tensor.shape[0]))
        with plain_sizes():
            sizes.append(type(tensor.shape[0]))
        sizes.append(type(tensor.shape[0]))
        return tensor + 1

    torch.jit.trace(looks, torch.ones(2), check_trace=False)  # type: ignore[no-untyped-call]
    assert sizes == [Tensor, int, Tensor]
    with SeesAll() as mode, plain_sizes():
        assert torch.ones(2).shape[0] == 2
    assert mode.seen == []
