"""A model split over ranks: tensor parallel, pipeline stages, and tensor parallel inside FSDP2."""

from __future__ import annotations

import torch
from model import STEPS, Block, batch, make, run, train
from torch import Tensor, distributed, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.pipelining import PipelineStage, ScheduleGPipe
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)

PLAN = {"fc": ColwiseParallel(), "out": RowwiseParallel()}


def tensor_parallel() -> list[float]:
    model = make()
    mesh = distributed.init_device_mesh("cpu", (distributed.get_world_size(),))
    for block in model.h:
        parallelize_module(block, mesh, PLAN)
    return train(model, lambda step: batch(step, rank=0))


def tensor_parallel_in_fsdp2() -> list[float]:
    model = make()
    mesh = distributed.init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    for block in model.h:
        parallelize_module(block, mesh["tp"], PLAN)
        fully_shard(block, mesh=mesh["dp"])
    fully_shard(model, mesh=mesh["dp"])
    return train(model, lambda step: batch(step, rank=distributed.get_rank() // 2))


class Stage(nn.Module):
    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.block = Block()

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


def pipeline() -> list[float]:
    rank, count = distributed.get_rank(), distributed.get_world_size()
    module = Stage(rank)
    stage = PipelineStage(module, rank, count, torch.device("cpu"))
    losses: list[Tensor] = []
    schedule = ScheduleGPipe(stage, 2, loss_fn=lambda y, target: (y - target).square().mean())
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    means = []
    for step in range(STEPS):
        x = torch.cat([batch(step, 0), batch(step, 1)])
        losses.clear()
        if rank == 0:
            schedule.step(x)
        elif rank == count - 1:
            schedule.step(target=x, losses=losses)
        else:
            schedule.step()
        optimizer.step()
        optimizer.zero_grad()
        means.append(sum(loss.item() for loss in losses))
    return means


run(
    {
        "tensor_parallel": tensor_parallel,
        "tensor_parallel_in_fsdp2": tensor_parallel_in_fsdp2,
        "pipeline": pipeline,
    }
)
