"""torch's pipelining on two ranks: each has a stage and an optimizer of its own."""

from __future__ import annotations

import os

import torch
import torch.distributed as dist
from outcome import tell
from torch import nn
from torch.distributed.pipelining import PipelineStage, ScheduleGPipe

dist.init_process_group("gloo")
rank = int(os.environ["RANK"])
torch.manual_seed(rank)
stage_module = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
stage = PipelineStage(stage_module, rank, 2, torch.device("cpu"))
schedule = ScheduleGPipe(stage, 4, loss_fn=nn.functional.mse_loss)
optimizer = torch.optim.SGD(stage_module.parameters(), lr=0.1)
for _ in range(4):
    inputs, labels = torch.randn(8, 8), torch.randn(8, 8)
    if rank == 0:
        schedule.step(inputs)
    else:
        schedule.step(target=labels)
    optimizer.step()
    optimizer.zero_grad()
tell(stage_module)
dist.destroy_process_group()
