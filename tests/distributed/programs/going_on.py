"""Ranks train with DDP until there is a file, or for so many steps: the arguments. Rank 0 prints all losses."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch
from model import batch, leave_with, make
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

torch.set_num_threads(1)
distributed.init_process_group("gloo")
rank = distributed.get_rank()
wrapped = DistributedDataParallel(make())
optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.1)
losses: list[float] = []
most = int(sys.argv[2]) if len(sys.argv) > 2 else None
over = torch.zeros(1)
while not over.item():
    x = batch(len(losses), rank)
    time.sleep(0.02)
    loss = wrapped(x).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    losses.append(loss.item())
    over.fill_(float(Path(sys.argv[1]).exists() or len(losses) == most))
    distributed.broadcast(over, 0)
leave_with(losses)
