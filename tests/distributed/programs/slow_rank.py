"""One rank is slow in one module; DDP. Steps in which another rank is slow in its data loader may follow.

Arguments: the slow rank, seconds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import torch
from model import STEPS, WIDTH, Block, batch, leave, make
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

slow_rank, seconds = int(sys.argv[1]), float(sys.argv[2])


class SlowBlock(Block):
    def forward(self, x: Tensor) -> Tensor:
        if distributed.get_rank() == slow_rank:
            time.sleep(seconds)
        return super().forward(x)


class Batches(Dataset[Tensor]):
    def __len__(self) -> int:
        return STEPS

    def __getitem__(self, step: int) -> Tensor:
        return batch(step)


def batches() -> Iterator[Tensor]:
    return iter(DataLoader(Batches(), batch_size=None))


torch.set_num_threads(1)
distributed.init_process_group("gloo")
model = make()
model.h[1] = SlowBlock()
assert model.head.in_features == WIDTH
wrapped = DistributedDataParallel(model)
optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.1)
distributed.barrier()
for x in batches():
    wrapped(x).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
distributed.barrier()
leave()
