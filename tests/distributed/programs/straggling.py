"""Four ranks under DDP: rank 2 is always slower in one module, rank 3 once, in backward of another.

Arguments: how many steps, the step in which rank 3 is slow.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import torch
from model import leave
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

steps, slow_step = int(sys.argv[1]), int(sys.argv[2])
step = 0


class Slept(torch.autograd.Function):
    """Sleeps in backward for as long as its module says then."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, module: Mlp) -> Tensor:
        ctx.module = module
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        time.sleep(ctx.module.backward_s())
        return grads[0], None


class Mlp(nn.Module):
    def __init__(self, block: int) -> None:
        super().__init__()
        self.block = block
        self.weight = nn.Parameter(torch.ones(8))

    def forward(self, value: Tensor) -> Tensor:
        time.sleep(0.032 if (rank, self.block) == (2, 1) else 0.002)
        slept: Tensor = Slept.apply(value * self.weight, self)
        return slept

    def backward_s(self) -> float:
        return 0.5 if (rank, self.block, step) == (3, 2, slow_step) else 0.003


class Block(nn.Module):
    def __init__(self, block: int) -> None:
        super().__init__()
        self.mlp = Mlp(block)

    def forward(self, value: Tensor) -> Tensor:
        mixed: Tensor = self.mlp(value)
        return mixed


torch.set_num_threads(1)
distributed.init_process_group("gloo")
rank = distributed.get_rank()
model = DistributedDataParallel(nn.Sequential(*(Block(number) for number in range(4))))
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
distributed.barrier()
for step in range(steps):  # noqa: B007
    model(torch.full((8,), 0.1)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
distributed.barrier()
leave()
