"""A model of blocks, the ways to have them compiled one by one, and its training."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Block(nn.Module):
    """One of a row, with modules of its own inside."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.act(self.fc(x))


class Model(nn.Module):
    """A layer, three blocks and a layer.

    Args:
        use_reentrant: of the checkpoint around each block; None for no checkpoint.
    """

    def __init__(self, use_reentrant: bool | None = None) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 4)
        self.h = nn.ModuleList(Block() for _ in range(3))
        self.head = nn.Linear(4, 2)
        self._use_reentrant = use_reentrant

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for block in self.h:
            x = self._call(block, x)
        return self.head(x)

    def _call(self, block: nn.Module, x: Tensor) -> Tensor:
        if self._use_reentrant is None:
            return block(x)
        return checkpoint(block, x, use_reentrant=self._use_reentrant)


def compile_in_place(model: Model, backend: str) -> None:
    """Compile each block by its own method."""
    for block in model.h:
        block.compile(backend=backend, fullgraph=True)


def put_compiled_in_place(model: Model, backend: str) -> None:
    """Put what `torch.compile` returns in the place of each block."""
    for place, block in enumerate(model.h):
        model.h[place] = cast("nn.Module", torch.compile(block, backend=backend, fullgraph=True))


def put_a_new_list_in_place(model: Model, backend: str) -> None:
    """Put a list of what `torch.compile` returns in the place of the list of blocks."""
    compiled = [torch.compile(block, backend=backend, fullgraph=True) for block in model.h]
    model.h = nn.ModuleList(cast("list[nn.Module]", compiled))


def compile_forward(model: Model, backend: str) -> None:
    """Put what `torch.compile` returns in the place of each block's `forward`."""
    for block in model.h:
        block.forward = torch.compile(block.forward, backend=backend, fullgraph=True)
