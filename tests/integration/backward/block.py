"""A layer in a layer: what most models of these tests are made of."""

from __future__ import annotations

from torch import Tensor, nn


class Block(nn.Module):
    """Takes and returns four numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.act = nn.Tanh()
        self.second = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.second(self.act(self.first(x)))
        return output
