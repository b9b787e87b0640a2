"""The model that the programs train, and the loop that trains it."""

from __future__ import annotations

import atexit
import gc
import json
import os
import sys
from collections.abc import Callable

import torch
from torch import Tensor, distributed, nn
from torch.utils.checkpoint import checkpoint

WIDTH = 8
STEPS = 2

_left: list[bool] = []  # that this rank came to its end


@atexit.register
def _end() -> None:
    """Be gone once all that was registered later has been called, tracing's own end among it.

    Where a process group was used torch 2.13 aborts one process in some thirty, traced or not, when Python is taken
    down: "terminate called without an active exception". After an error Python is taken down all the same.
    """
    if _left:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def leave() -> None:
    """Leave the process group, as the last thing that the program does."""
    distributed.destroy_process_group()
    _left.append(True)


def leave_with(losses: list[float]) -> None:
    """Leave after rank 0 has printed the losses of all ranks."""
    gathered: list[list[float]] = [[] for _ in range(distributed.get_world_size())]
    distributed.all_gather_object(gathered, losses)
    if distributed.get_rank() == 0:
        print(json.dumps(gathered), flush=True)
    distributed.barrier()
    leave()


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(WIDTH, WIDTH)
        self.act = nn.ReLU()
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.out(self.act(self.fc(x)))


class GPT(nn.Module):
    def __init__(self, checkpointed: int = 0) -> None:
        super().__init__()
        self.checkpointed = checkpointed  # so many of the last blocks
        self.h = nn.ModuleList(Block() for _ in range(2))
        self.head = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        for place, block in enumerate(self.h):
            last = len(self.h) - place <= self.checkpointed
            x = checkpoint(block, x, use_reentrant=False) if last else block(x)
        return self.head(x)


def make(checkpointed: int = 0) -> GPT:
    """Return the same model on every rank."""
    torch.manual_seed(0)
    return GPT(checkpointed)


def batch(step: int, rank: int | None = None) -> Tensor:
    """Return this rank's batch, or that of `rank`, which is the same in every run."""
    rank = distributed.get_rank() if rank is None else rank
    generator = torch.Generator().manual_seed(1_000 * step + rank)
    return torch.randn(2, WIDTH, generator=generator)


def train(model: nn.Module, batch_of: Callable[[int], Tensor] = batch) -> list[float]:
    """Train for `STEPS` steps; return the losses."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for step in range(STEPS):
        loss = model(batch_of(step)).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def run(scenarios: dict[str, Callable[[], list[float]]]) -> None:
    """Run all scenarios one after the other, `STEPS` steps each; rank 0 prints the losses of all ranks."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    losses = {}
    for name, scenario in scenarios.items():
        gathered: list[list[float]] = [[] for _ in range(distributed.get_world_size())]
        distributed.all_gather_object(gathered, scenario())
        losses[name] = gathered
        gc.collect()  # a model that is still there keeps its name, and the next of its class has another
    distributed.barrier()
    if distributed.get_rank() == 0:
        print(json.dumps(losses), flush=True)
    leave()
