"""Autograd nodes to try what is asked of them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.graph import Node


def leaf() -> Tensor:
    return torch.ones(2, requires_grad=True)


def node_of(tensor: Tensor) -> Node:
    assert tensor.grad_fn is not None
    return tensor.grad_fn
