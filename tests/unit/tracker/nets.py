"""Modules whose forward is the test's own."""

from __future__ import annotations

from typing import Any

from torch import nn


class Net(nn.Module):
    """Children `a`, `b`, ... of any kind, and a forward of the test's own."""

    def __init__(self, forward: Any, **children: nn.Module) -> None:
        super().__init__()
        self.run = forward
        for name, child in children.items():
            self.add_module(name, child)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(self, *args, **kwargs)


def linear() -> nn.Module:
    """Return a layer that takes and returns two numbers."""
    return nn.Linear(2, 2)
