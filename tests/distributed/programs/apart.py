"""Every rank trains a model of its own: nothing but the run holds them together. Says its traces' ids as it sees them.

Arguments, any of: "skip:RANK:STEP", a step that this rank does not make; "fork", each rank forks in mid-step, and the
child trains on; "workers", batches come from two processes.
"""

from __future__ import annotations

import os
import sys

import torch
from model import STEPS, WIDTH, make
from opentelemetry import baggage
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import otel_torch_modules

RANK = int(os.environ["RANK"])
SKIPPED = [tuple(map(int, word.split(":")[1:])) for word in sys.argv if word.startswith("skip")]


class Batches(Dataset[Tensor]):
    def __len__(self) -> int:
        return STEPS + 1

    def __getitem__(self, step: int) -> Tensor:
        return torch.full((2, WIDTH), float(step))


def train_step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, x: Tensor) -> None:
    loss = model(x).square().mean()
    if "fork" in sys.argv:
        child = os.fork()
        if child == 0:
            sys.argv.remove("fork")
            train_step(model, optimizer, x)
            sys.exit()
        assert os.waitpid(child, 0)[1] == 0
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def main() -> None:
    torch.set_num_threads(1)
    model = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    workers = 2 if "workers" in sys.argv else 0
    for step, x in enumerate(DataLoader(Batches(), batch_size=None, num_workers=workers)):
        if (RANK, step) not in SKIPPED:
            with otel_torch_modules.step(step):
                train_step(model, optimizer, x)
    if RANK == 0:
        print(dict(baggage.get_all()), flush=True)


main()
