"""Some steps are slow, each in one module of one rank; DDP.

Arguments: how many steps, every how many one is slow, seconds. Which rank it is goes round.
"""

from __future__ import annotations

import sys
import time

import torch
from model import Block, batch, leave, make
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

steps, every, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])


class SlowBlock(Block):
    def forward(self, x: Tensor) -> Tensor:
        if step % every == every - 1 and step // every % ranks == distributed.get_rank():
            time.sleep(seconds)
        return super().forward(x)


torch.set_num_threads(1)
distributed.init_process_group("gloo")
ranks = distributed.get_world_size()
model = make()
model.h[1] = SlowBlock()
wrapped = DistributedDataParallel(model)
optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.1)
distributed.barrier()
for step in range(steps):
    wrapped(batch(step)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
distributed.barrier()
leave()
