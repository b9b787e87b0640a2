"""A transformer of many module calls and little else: what a large model is to a tracer."""

from __future__ import annotations

from math import ceil

import torch
from torch import Tensor, nn

from otel_torch_modules.examples.train_gpt import Block

_CALLS_OF_A_BLOCK = 10  # itself and nine modules below
_OTHER_CALLS = 5  # the model, its blocks as a whole, and three layers


class DeepTransformer(nn.Module):
    """Blocks of the demo's GPT, one after the other, of the least width.

    Args:
        calls: the least number of module calls of a forward; there are as many blocks as that takes.
        width: of all layers.
    """

    def __init__(self, calls: int, width: int = 4) -> None:
        super().__init__()
        self.width = width
        self.embed = nn.Linear(width, width)
        self.blocks = nn.Sequential(
            *(Block(width) for _ in range(ceil((calls - _OTHER_CALLS) / _CALLS_OF_A_BLOCK)))
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return one number for each place of `x`."""
        return self.head(self.norm(self.blocks(self.embed(x))))

    @property
    def calls(self) -> int:
        """Module calls of a forward."""
        return _CALLS_OF_A_BLOCK * len(self.blocks) + _OTHER_CALLS

    @property
    def spans_of_a_step(self) -> int:
        """Spans of a step with one forward and one backward: both of each call, the backward pass and the step."""
        return 2 * self.calls + 2

    def train_step(self) -> None:
        """Run one forward and one backward."""
        self(torch.randn(1, 4, self.width)).sum().backward()
