"""A loop in which a cause is made to happen at a place of the program, and what its span must be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from otel_torch_modules import Config
from otel_torch_modules.testing import CapturedSpan, capture_spans
from tests.support.passing_time import since_epoch

Happen = Callable[[], object]


class Clock:
    """When the program began to do something, and when it was done, since the epoch (ns)."""

    start = end = 0

    @contextmanager
    def around(self) -> Iterator[None]:
        """Take the times of what is done inside."""
        self.start = since_epoch()
        yield
        self.end = since_epoch()

    def holds(self, span: CapturedSpan) -> bool:
        """Return whether `span` lies there."""
        return self.start <= span.start and span.end <= self.end


class Net(nn.Module):
    """One layer, something that happens, and an activation."""

    happen: Happen = staticmethod(lambda: None)

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(x)
        self.happen()
        return self.act(x)


def nothing() -> None:
    """Happen nowhere."""


def train(
    steps: int = 3,
    *,
    at: int = 1,
    in_forward: Happen = nothing,
    in_backward: Happen = nothing,
    before_step: Happen = nothing,
    between: Happen = nothing,
) -> list[float]:
    """Train so many steps; in the one at `at` this and that happens at its place. Return all parameters at the end."""
    torch.manual_seed(0)
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    inputs = torch.rand(2, 4)
    for step in range(steps):
        now = step == at
        model.happen = in_forward if now else nothing
        output = model(inputs)
        if now:
            output.register_hook(lambda _: (in_backward(), None)[1])
        output.sum().backward()
        if now:
            before_step()
        sgd.step()
        if now:
            between()
    return [value for tensor in model.parameters() for value in tensor.flatten().tolist()]


def traced(
    config: Config | None = None, **places: Happen
) -> tuple[list[CapturedSpan], list[float]]:
    """Return the trees of `train`, and its parameters."""
    with capture_spans(config) as captured:
        parameters = train(**places)
    return captured.trees, parameters


def path_to(tree: CapturedSpan, name: str) -> list[str]:
    """Return the names from the root to the only span of this name."""
    paths = list(_paths(tree, name))
    assert len(paths) == 1, tree.outline()
    return paths[0]


def _paths(span: CapturedSpan, name: str) -> Iterator[list[str]]:
    if span.name == name:
        yield [name]
    for child in span.children:
        yield from ([span.name, *path] for path in _paths(child, name))
