"""Data parallel training: DDP and both FSDPs. Arguments: names of scenarios, else all are run."""

from __future__ import annotations

import sys

import torch
from model import STEPS, batch, make, run, train
from torch import distributed
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.nn.parallel import DistributedDataParallel


def ddp() -> list[float]:
    return train(DistributedDataParallel(make()))


def ddp_accumulating() -> list[float]:
    model = DistributedDataParallel(make())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for step in range(STEPS):
        with model.no_sync():
            model(batch(step)).square().mean().backward()
        loss = model(batch(step + 100)).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def ddp_static_graph() -> list[float]:
    return train(DistributedDataParallel(make(), static_graph=True))


def fsdp1() -> list[float]:
    model = make()
    for place, block in enumerate(model.h):
        model.h[place] = FullyShardedDataParallel(block, device_id=torch.device("cpu"))
    return train(FullyShardedDataParallel(model, device_id=torch.device("cpu")))


def fsdp2(checkpointed: int = 0) -> list[float]:
    model = make(checkpointed)
    mesh = distributed.init_device_mesh("cpu", (distributed.get_world_size(),))
    for block in model.h:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return train(model)


scenarios = {
    "ddp": ddp,
    "ddp_accumulating": ddp_accumulating,
    "ddp_static_graph": ddp_static_graph,
    "fsdp1": fsdp1,
    "fsdp2": fsdp2,
    "fsdp2_checkpointed": lambda: fsdp2(checkpointed=1),
}
named = sys.argv[1:] or list(scenarios)
run({name: scenarios[name] for name in named})
