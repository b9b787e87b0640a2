"""The worst model for a tracer of modules: many modules that do next to nothing."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """A residual block of six modules and itself."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, width)
        self.act = nn.GELU()
        self.down = nn.Linear(width, width)
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` and what the block adds to it."""
        return x + self.gate(self.down(self.act(self.up(self.norm(x)))))


class Toy(nn.Module):
    """`blocks` blocks and a head: 6 * blocks + 3 module calls a forward."""

    def __init__(self, blocks: int = 20, width: int = 8) -> None:
        super().__init__()
        self.inp = nn.Linear(width, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))
        self.head = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return one number for each row of `x`."""
        x = self.inp(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def training_step(model: nn.Module, batch: Tensor) -> Callable[[], None]:
    """Return a function that runs one forward and one backward of `model`."""

    def run() -> None:
        model(batch).sum().backward()

    return run


def inference(model: nn.Module, batch: Tensor) -> Callable[[], None]:
    """Return a function that runs one forward of `model` under ``no_grad``."""

    def run() -> None:
        with torch.no_grad():
            model(batch)

    return run


def calls(blocks: int = 20) -> int:
    """Return the number of module calls of one forward of :class:`Toy`."""
    return 6 * blocks + 3
