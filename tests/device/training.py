"""A model whose kernels take a known time, and how it is trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class _Busy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, busy: Callable[[float], None], forward: float, backward: float
    ) -> Tensor:
        ctx.again = busy, backward
        busy(forward)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        busy, seconds = ctx.again
        busy(seconds)
        return gradients[0], None, None, None


class Block(nn.Module):
    """A layer after which the device is busy for so many seconds, and so many in backward."""

    def __init__(self, busy: Callable[[float], None], forward: float, backward: float) -> None:
        super().__init__()
        self.lin = nn.Linear(64, 64)
        self.busy = busy, forward, backward

    def forward(self, x: Tensor) -> Tensor:
        return _Busy.apply(self.lin(x), *self.busy).sin()  # type: ignore[no-untyped-call]


def train(
    model: nn.Module,
    device: torch.device,
    steps: int,
    around_loss: Callable[[Tensor], Tensor] = lambda loss: loss,
) -> list[Tensor]:
    """Return the losses, on the device: nobody waits for them."""
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    x = torch.ones(32, 64, device=device)
    losses = []
    for _ in range(steps):
        loss = around_loss(model(x).square().mean())
        loss.backward()
        sgd.step()
        sgd.zero_grad()
        losses.append(loss.detach())
    return losses


def two_blocks(busy: Callable[[float], None], device: torch.device) -> nn.Module:
    """Return a model of 5 and 10 ms, and of 2 and 4."""
    torch.manual_seed(0)
    return nn.Sequential(Block(busy, 0.005, 0.010), Block(busy, 0.002, 0.004)).to(device)
