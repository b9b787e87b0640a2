"""Four ranks train with DDP, and in some steps one of them does not get on until it may.

Arguments: a folder. A rank that is about to hang writes the file ``{step}.hangs`` there, with its process id, and
goes on when there is a file ``{step}.go``. Rank 0 prints the losses of all ranks.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
from model import WIDTH, Block, batch, leave_with, make
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

# In which step which rank hangs, and where.
PLAN = {
    3: ("forward", 2),
    5: ("backward", 1),
    7: ("dataset", 3),
    9: ("barrier", 0),
    11: ("checkpoint", 2),
    13: ("worker", 1),
    15: ("stopped", 2),
    17: ("evaluation", 3),
}
STEPS = 19
folder = Path(sys.argv[1])
step = 0


def hang(place: str) -> None:
    """Wait, if this is where this rank is to."""
    if PLAN.get(step) == (place, rank):
        _write(folder / f"{step}.hangs", str(os.getpid()))
        while not (folder / f"{step}.go").exists():
            if place == "stopped":
                os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(0.02)


def _write(path: Path, text: str) -> None:
    path.with_suffix(".part").write_text(text)
    path.with_suffix(".part").rename(path)


class Late(Block):
    def forward(self, x: Tensor) -> Tensor:
        hang("forward" if torch.is_grad_enabled() else "evaluation")
        if torch.is_grad_enabled():
            hang("stopped")
        return super().forward(x)


class LateInBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        hang("backward")
        return gradient


class Early(Block):
    def forward(self, x: Tensor) -> Tensor:
        return LateInBackward.apply(super().forward(x))


class Batches(Dataset[Tensor]):
    def __init__(self, place: str) -> None:
        self.place = place

    def __len__(self) -> int:
        return STEPS

    def __getitem__(self, index: int) -> Tensor:
        hang(self.place)
        return batch(index, rank)


def write_checkpoint() -> None:
    hang("checkpoint")


torch.set_num_threads(1)
distributed.init_process_group("gloo")
rank = distributed.get_rank()
model = make()
model.h[0], model.h[1] = Early(), Late()
assert model.head.in_features == WIDTH
wrapped = DistributedDataParallel(model)
optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.1)
batches = iter(DataLoader(Batches("dataset"), batch_size=None))
losses = []
for step in range(STEPS):
    if PLAN.get(step) == ("worker", rank):
        next(iter(DataLoader(Batches("worker"), batch_size=None, num_workers=1)))
    x = next(batches)
    loss = wrapped(x).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    losses.append(loss.item())
    write_checkpoint()
    if PLAN.get(step, ("",))[0] == "evaluation":
        with torch.no_grad():
            losses.append(model(x).sum().item())
    if PLAN.get(step, ("",))[0] == "barrier":
        hang("barrier")
        distributed.barrier()
leave_with(losses)
