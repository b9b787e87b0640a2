"""What a tensor, and what tensors lie in, do not say in public."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import SUPPORTED_NODES

from otel_torch_modules._interruption import is_interruption

torch_function_modes: Callable[[], int] = torch._C._len_torch_function_stack
"""How many ``TorchFunctionMode`` are on: they would see that an attribute of a tensor is read."""

without_torch_function = torch._C.DisableTorchFunction
"""A context in which neither these modes nor a tensor's class see what is asked of it."""


def plain_sizes() -> AbstractContextManager[None]:
    """Have sizes as plain integers, unseen by the program's torch function modes and by ``torch.jit.trace``."""
    tracing = torch._C._get_tracing_state()
    return without_torch_function() if tracing is None else _untraced(tracing)


@contextmanager
def _untraced(tracing: Any) -> Iterator[None]:
    torch._C._set_tracing_state(None)  # type: ignore[attr-defined]
    try:
        with without_torch_function():
            yield
    finally:
        torch._C._set_tracing_state(tracing)  # type: ignore[attr-defined]


def versions_of(tensors: Iterable[Tensor]) -> dict[int, int]:
    """Return by the ids of `tensors` how often each was changed in place."""
    found = {}
    for tensor in tensors:
        try:
            found[id(tensor)] = tensor._version
        except RuntimeError as error:  # of one of inference mode, which does not count
            if is_interruption(error):
                raise
    return found


def pytree_flattener(cls: type) -> Callable[[Any], tuple[Iterable[Any], Any]] | None:
    """Return what flattens an instance of `cls`, where that is registered as a pytree."""
    node = SUPPORTED_NODES.get(cls)
    return None if node is None else node.flatten_fn
