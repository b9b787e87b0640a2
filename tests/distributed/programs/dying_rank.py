"""The last rank is killed in the middle of its third step, in its first life.

It waits for that until the other ranks' first two steps are in the file: torchrun ends the others once it is dead,
and only what ended a second or more before is sure to have been sent.

Arguments: "together" where the ranks train one model with DDP, "apart" where each trains its own.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import torch
from model import Block, batch, leave, make
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

STEPS = 5
doomed = int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1
first_life = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
steps_done = 0


def sent() -> set[tuple[str, str]]:
    """Return the names of the rank spans in the file, with their steps."""
    found = set()
    file = Path(os.environ["OTEL_TORCH_MODULES_FILE"])
    text = file.read_text() if file.exists() else ""
    for line in text.splitlines()[: text.count("\n")]:  # the last may be half written
        for resource_spans in json.loads(line)["resourceSpans"]:
            for span in resource_spans["scopeSpans"][0]["spans"]:
                attributes = {entry["key"]: entry["value"] for entry in span["attributes"]}
                if span["name"].startswith("rank "):
                    found.add((span["name"], attributes["torch.step"]["intValue"]))
    return found


def wait_for_the_others() -> None:
    others = {(f"rank {rank}", step) for rank in range(2) for step in ("0", "1")}
    deadline = time.monotonic() + 60
    while not others <= sent():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not sent: {others - sent()}")
        os.sched_yield()


class Mortal(Block):
    def forward(self, x: Tensor) -> Tensor:
        if doomed and first_life and steps_done == 2:
            wait_for_the_others()
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
leave()
