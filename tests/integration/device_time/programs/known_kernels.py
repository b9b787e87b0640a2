"""Trains on the simulated accelerator with kernels of known length, and prints what each step's spans say.

What the device is to have taken is in the names: of a block's kernel in forward, in backward, and of the optimizer's.
"""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from otel_torch_modules import Config, trace
from otel_torch_modules._recording import device_events
from otel_torch_modules.testing import CapturedSpan, capture_spans
from tests.support.simdev import device as simdev

MS = 1_000_000
BEHIND = 500 * MS  # the device, where the first step begins: it has work until the last one ends
STEPS = 8
OPTIMIZER = 5 * MS


class Block(nn.Module):
    def __init__(self, forward: int, backward: int) -> None:
        super().__init__()
        self.lin = nn.Linear(4, 4)
        self.times = forward * MS, backward * MS

    def forward(self, x: Tensor) -> Tensor:
        # What comes after the kernel needs its result in backward: a recompute goes as far.
        return simdev.kernel(self.lin(x), *self.times).sin()


class Gathered(nn.Module):
    """What it needs is gathered on another stream, for which its own waits."""

    def __init__(self) -> None:
        super().__init__()
        self.other = torch.Stream(device="sim")

    def forward(self, x: Tensor) -> Tensor:
        here = torch.accelerator.current_stream().record_event()
        with self.other:
            self.other.wait_event(here)
            simdev.launch(3 * MS)
            gathered = self.other.record_event()
        torch.accelerator.current_stream().wait_event(gathered)
        return simdev.kernel(x, 1 * MS, 1 * MS)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = Block(4, 8)
        self.again = Block(6, 12)
        self.gathered = Gathered()

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = checkpoint(self.again, x, use_reentrant=False)
        return self.gathered(x)


class Sgd(torch.optim.SGD):
    def step(self, closure: Any = None) -> None:
        simdev.launch(OPTIMIZER)
        super().step(closure)


def train(steps: int, behind: int) -> tuple[list[float], list[int], int]:
    """Return losses and parameters, when the device was to come to each step (Unix ns), how often it was waited for."""
    torch.manual_seed(0)
    net = Net()
    sgd = Sgd(net.parameters(), lr=0.01)
    x = torch.ones(2, 4)
    losses, reached = [], []
    since_epoch = time.time_ns() - time.perf_counter_ns()
    waited = simdev.counts()["syncs"]
    simdev.launch(behind)
    for _ in range(steps):
        reached.append(simdev.queued_until() + since_epoch)
        loss = net(x).square().sum()
        loss.backward()
        sgd.step()
        sgd.zero_grad()
        losses.append(loss.detach())
    waited = simdev.counts()["syncs"] - waited
    torch.accelerator.synchronize()
    numbers = [*losses, *(parameter.detach() for parameter in net.parameters())]
    return [value for one in numbers for value in one.flatten().tolist()], reached, waited


def hog(until: threading.Event) -> None:
    """Keep the host busy: the program has the interpreter now and then."""
    while not until.is_set():
        sum(range(10_000))


def said(span: CapturedSpan) -> list[Any]:
    """Return the span's name, what it says of the device, its start and end (Unix ns) and the same of those below."""
    attributes = {key: value for key, value in span.attributes.items() if "device." in key}
    return [span.name, attributes, (span.start, span.end), [*map(said, span.children)]]


if __name__ == "__main__":
    torch.set_default_device("sim")
    train(2, 0)  # warm
    untraced_few, _, _ = train(4, 0)
    untraced, _, _ = train(STEPS, 0)
    simdev.set_clock(drift=40, tick=500)
    with capture_spans(Config()) as captured:
        traced, reached, waited = train(STEPS, BEHIND)
    # The device is so far behind that none of them has been read when the last one begins.
    device_events._MOST_WITH_MODULES = STEPS
    modules = Config(device_time="modules", device_every=2)
    with capture_spans(modules) as captured_modules:
        also_traced, _, also_waited = train(STEPS, BEHIND)
    ended = threading.Event()
    busy = threading.Thread(target=hog, args=(ended,))
    with capture_spans(modules) as captured_beside_hog:
        busy.start()
        beside_hog, _, waited_beside_hog = train(4, 4 * BEHIND)
        ended.set()
        busy.join()
    with capture_spans(Config(device_time="off")) as without:
        train(1, 0)
    with trace():  # by a provider of ours, into the file that the environment names
        train(STEPS, BEHIND)
    print(
        json.dumps(
            {
                "untraced": untraced,
                "traced": [traced, also_traced],
                "beside hog": [said(tree) for tree in captured_beside_hog.trees],
                "same beside hog": beside_hog == untraced_few,
                "reached": reached,
                "waited": waited + also_waited + waited_beside_hog,
                "steps": [said(tree) for tree in captured.trees],
                "modules": [said(tree) for tree in captured_modules.trees],
                "off": [said(tree) for tree in without.trees],
                "events": simdev.counts()["live_events"],
            }
        )
    )
