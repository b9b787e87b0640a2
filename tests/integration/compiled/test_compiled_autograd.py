"""A backward that compiled autograd runs ends well unless something was raised in it, whatever runs the graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch._dynamo
from torch import Tensor, nn
from torch._dynamo import compiled_autograd

from otel_torch_modules import Config
from otel_torch_modules.testing import capture_spans
from tests.integration.backward.drawing import draw, tree

WITHOUT_CAUSES = Config(causes=())  # compilations and collections come and go
STEPS = 3
FAILING = 1

COMPILERS = {
    "as it is": lambda graph: graph,
    "in parts": torch.compile(backend="eager"),
    "whole": torch.compile(backend="aot_eager", fullgraph=True),
}


class Fails(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        raise ArithmeticError


@pytest.fixture(autouse=True)
def _fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def drawing_of_steps(compiler: Callable[..., Any], failing: int | None) -> list[str]:
    """Return the drawing of each step, one of which may fail."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    begin = "train.step"
    with capture_spans(WITHOUT_CAUSES) as captured:
        for step in range(STEPS):
            out = model(torch.ones(2, 4))
            if step == failing:
                out = Fails.apply(out)  # type: ignore[no-untyped-call]
            with compiled_autograd._enable(compiler):
                try:
                    out.sum().backward()
                except Exception:
                    assert step == failing
                else:
                    assert step != failing
            optimizer.step()
    _, *steps = draw(captured).split(begin)
    return [begin + step.rstrip() for step in steps]


GOOD = tree("""
    train.step
      forward Sequential ->
        forward 0 ->
        forward 1 ->
      backward
      optimizer.step SGD
""")
BAD = GOOD.replace("train.step", "train.step !").replace("backward", "backward !")


@pytest.mark.parametrize("compiler", COMPILERS.values(), ids=COMPILERS)
def test_each_step_ends_well(compiler: Callable[..., Any]) -> None:
    assert drawing_of_steps(compiler, failing=None) == [GOOD] * STEPS


@pytest.mark.parametrize("name", ["as it is", "in parts"])  # what fails is not compiled as a whole
def test_one_in_which_something_is_raised_does_not(name: str) -> None:
    assert drawing_of_steps(COMPILERS[name], FAILING) == [GOOD, BAD, GOOD]
