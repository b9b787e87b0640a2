"""A small model, the tree of one of its training steps, and how whole trees are compared."""

from __future__ import annotations

from textwrap import dedent, indent

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from otel_torch_modules.testing import Captured, CapturedSpan


class Net(nn.Module):
    """One layer and its activation."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.fc(x))


FORWARD = """\
forward Net
  forward fc
  forward act
"""

BACKWARD = """\
backward
  backward Net
    backward act
    backward fc
"""


def batch() -> Tensor:
    """Return an input of `Net`."""
    return torch.ones(2, 4)


def loader(batches: int) -> DataLoader[Tensor]:
    """Return a loader of so many batches."""
    return DataLoader(torch.ones(2 * batches, 4), batch_size=2)  # type: ignore[arg-type]


def step(*parts: str) -> str:
    """Return the outline of a step with these parts below it."""
    return "train.step\n" + indent("".join(parts), "  ")


def optimizer(name: str = "SGD", *parts: str) -> str:
    """Return the outline of an optimizer's step with these parts below it."""
    return f"optimizer.step {name}\n" + indent("".join(parts), "  ")


def evaluation(*parts: str) -> str:
    """Return the outline of a pass of evaluation with these parts below it."""
    return "evaluate\n" + indent("".join(parts), "  ")


STEP = step(FORWARD, BACKWARD, optimizer())
EVALUATION = evaluation(FORWARD)


def train(model: nn.Module, sgd: torch.optim.Optimizer) -> None:
    """Make one plain step."""
    model(batch()).sum().backward()
    sgd.step()
    sgd.zero_grad()


def by_hand(model: nn.Module) -> None:
    """Update the parameters as a program without ``torch.optim`` does."""
    with torch.no_grad():
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter -= 0.01 * parameter.grad
            parameter.grad = None


def outline(captured: Captured) -> str:
    """Return the outlines of all trees, after a check that children lie inside their parents and in order."""
    for tree in captured.trees:
        for span in tree.walk():
            _check(span)
    return "".join(tree.outline() + "\n" for tree in captured.trees)


def _check(span: CapturedSpan) -> None:
    assert span.start <= span.end
    for child in span.children:
        assert span.start <= child.start, (span.name, child.name)
        assert child.end <= span.end, (span.name, child.name)
    if span.attributes.get("torch.phase") != "optimizer":
        for before, after in zip(span.children, span.children[1:], strict=False):
            assert before.end <= after.start, (before.name, after.name)


def text(outline: str) -> str:
    """Return an outline that a test wrote indented, as `outline` gives it."""
    return dedent(outline).lstrip("\n")
