"""Trains on a device, and prints the outline of its traces: the same on each.

``python -m tests.device.same_program cuda``
"""

from __future__ import annotations

import json
import sys

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from otel_torch_modules import Config
from otel_torch_modules.testing import CapturedSpan, capture_spans

CONFIG = Config(device_time="modules", device_every=1, causes=())


class Net(nn.Module):
    """Blocks of which two are computed again in backward, in both ways, in place on a view, and one called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.h = nn.ModuleList(
            nn.Sequential(nn.Linear(16, 16), nn.ReLU(inplace=True)) for _ in range(3)
        )
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.h[0](x)
        x = checkpoint(self.h[1], x, use_reentrant=False)
        x = checkpoint(self.h[2], x, use_reentrant=True)
        return {"logits": self.head(self.h[0](x))}


def outlines(device: torch.device) -> list[str]:
    """Return the outlines of the traces of two steps of two micro-batches and an evaluation."""
    torch.manual_seed(0)
    net = Net().to(device)
    adam = torch.optim.AdamW(net.parameters())
    x = torch.ones(2, 5, 16).to(device)
    with capture_spans(CONFIG) as captured:
        for _ in range(2):  # as many may wait for their modules' times
            for _ in range(2):
                net(x)["logits"].square().mean().backward()
            adam.step()
            adam.zero_grad()
        with torch.no_grad():
            net(x)
        if device.type != "cpu":
            torch.accelerator.synchronize()
    return ["\n".join(_lines(tree)) for tree in captured.trees]


def _lines(span: CapturedSpan, depth: int = 0) -> list[str]:
    """Return the names of a tree, with who says what the device took; without what the machine's pauses make."""
    told = "torch.device.duration" in span.attributes
    line = f"{'  ' * depth}{span.name}{' (told)' if told else ''}"
    below = [child for child in span.children if child.name != "between"]
    return [line, *(one for child in below for one in _lines(child, depth + 1))]


if __name__ == "__main__":
    name = sys.argv[1]
    if name == "sim":
        import tests.support.simdev.device  # noqa: F401  registers it
    print(json.dumps(outlines(torch.device(name))))
