"""The last rank is killed in the middle of its third step, in its first life.

Arguments: "together" where the ranks train one model with DDP, "apart" where each trains its own.
"""

from __future__ import annotations

import os
import signal
import sys

import torch
from model import Block, batch, make
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

STEPS = 5
doomed = int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1
first_life = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
steps_done = 0


class Mortal(Block):
    def forward(self, x: Tensor) -> Tensor:
        if doomed and first_life and steps_done == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x)


torch.set_num_threads(1)
distributed.init_process_group("gloo")
gpt = make()
gpt.h[1] = Mortal()
model: nn.Module = DistributedDataParallel(gpt) if sys.argv[1] == "together" else gpt
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(STEPS):
    model(batch(step)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
    steps_done += 1
distributed.barrier()
distributed.destroy_process_group()
