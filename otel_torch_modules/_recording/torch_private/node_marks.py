"""Has many nodes of autograd's share one hook."""

from __future__ import annotations

from collections.abc import Callable
from operator import methodcaller
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node

from otel_torch_modules._recording.torch_private.tensors import without_torch_function


class MarkHooks(dict[int, Callable[[Any], None]]):
    """Hooks that marked nodes share; each node holds them once."""

    __slots__ = ("__weakref__",)


def mark_carrier(mark: Callable[[Any], None]) -> Tensor:
    """Return what :func:`marks_by` puts on nodes: a tensor with `mark` as its hook.

    `Tensor.register_hook` shares a dictionary of hooks between a tensor and its node by ``_register_hook_dict``. A
    tensor of our own can share its dictionary with any number of nodes: a tenth of the cost of
    `Node.register_prehook`, which makes a dictionary and a handle for each.
    """
    with (
        torch.inference_mode(False),
        torch._C._DisableTorchDispatch(),
        without_torch_function(),
    ):
        carrier = torch.empty(0, device="cpu", requires_grad=True)
        carrier._backward_hooks = MarkHooks({0: mark})  # type: ignore[assignment]
    return carrier


def marks_by(carrier: Tensor) -> Callable[[Node], None]:
    """Return what has the carrier's mark called whenever backward comes to a node, also where it ends there."""
    return methodcaller("_register_hook_dict", carrier)
