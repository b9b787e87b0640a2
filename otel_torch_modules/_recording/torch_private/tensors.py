"""What a tensor, and what tensors lie in, do not say in public."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import SUPPORTED_NODES

torch_function_modes: Callable[[], int] = torch._C._len_torch_function_stack
"""How many ``TorchFunctionMode`` are on: they would see that an attribute of a tensor is read."""

without_torch_function = torch._C.DisableTorchFunction
"""A context in which neither these modes nor a tensor's class see what is asked of it."""


@contextmanager
def plain_sizes() -> Iterator[None]:
    """Have sizes as plain integers, unseen by the program's torch function modes and by ``torch.jit.trace``."""
    tracing = torch._C._get_tracing_state()
    torch._C._set_tracing_state(None)  # type: ignore[attr-defined]
    try:
        with without_torch_function():
            yield
    finally:
        torch._C._set_tracing_state(tracing)  # type: ignore[attr-defined]


def version_of(tensor: Tensor) -> int:
    """Return how often `tensor` was changed in place; 0 for one that does not count, of inference mode."""
    return 0 if tensor.is_inference() else tensor._version


def pytree_flattener(cls: type) -> Callable[[Any], tuple[Iterable[Any], Any]] | None:
    """Return what flattens an instance of `cls`, where that is registered as a pytree."""
    node = SUPPORTED_NODES.get(cls)
    return None if node is None else node.flatten_fn
