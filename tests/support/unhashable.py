"""A module that cannot be hashed."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass
class Unhashable(nn.Module):
    """As a dataclass is that compares."""

    weight: float = 1.0

    def __post_init__(self) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight
