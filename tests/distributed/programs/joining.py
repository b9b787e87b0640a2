"""Two ranks that have different numbers of batches, within ``DistributedDataParallel.join``; then two steps together.

With the argument ``by_hand`` the loop says where its steps are.
"""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext

import torch
from model import leave
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from otel_torch_modules import step

BY_HAND = sys.argv[1:] == ["by_hand"]

distributed.init_process_group("gloo")
rank = distributed.get_rank()
torch.manual_seed(0)
model = DistributedDataParallel(nn.Linear(2, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)


def train(index: int) -> None:
    """Make one step."""
    with step(index) if BY_HAND else nullcontext():
        model(torch.full((2, 2), float(index + rank))).sum().backward()
        optimizer.step()
        optimizer.zero_grad()


with model.join():
    for index in range(2 + rank):
        train(index)
for index in (8, 9):
    train(index)
if rank == 0:
    print(json.dumps([parameter.tolist() for parameter in model.parameters()]))
leave()
