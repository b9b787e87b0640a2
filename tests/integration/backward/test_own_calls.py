"""What a backward calls that it does not recompute: it lies where backward stands, in every step as in the first."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import indent
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from otel_torch_modules.testing import capture_spans
from tests.integration.backward.drawing import draw, tree

STEPS = 3

Calling = Callable[[Tensor], Tensor]


class InBackward(torch.autograd.Function):
    """Does nothing forward, and has backward make a call with the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, call: Calling) -> Tensor:
        ctx.call = call
        return x * 2

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return ctx.call(gradients[0]).detach(), None


def by_function(x: Tensor, call: Calling) -> Tensor:
    y: Tensor = InBackward.apply(x, call)  # type: ignore[no-untyped-call]
    return y


def by_hook(x: Tensor, call: Calling) -> Tensor:
    x.register_hook(lambda gradient: call(gradient).detach())
    return x * 2


Way = Callable[[Tensor, Calling], Tensor]

WAYS = [by_function, by_hook]


class Middle(nn.Module):
    """Has its backward make a call."""

    def __init__(self, way: Way, call: Calling) -> None:
        super().__init__()
        self.way = way
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.way(x + 1, self.call) * 2


class Model(nn.Module):
    def __init__(self, way: Way, call: Calling) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.middle = Middle(way, call)
        self.last = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.middle(self.first(x)))


class Called:
    """What backward calls, in one way or another."""

    def __init__(self) -> None:
        self.probe = nn.Sequential(nn.Linear(4, 4), nn.Tanh())

    def once(self, gradient: Tensor) -> Tensor:
        return self.probe(gradient)

    def twice(self, gradient: Tensor) -> Tensor:
        return self.probe(self.probe(gradient))

    def whole_and_in_part(self, gradient: Tensor) -> Tensor:
        return self.probe[0](self.probe(gradient))

    def trained_there(self, gradient: Tensor) -> Tensor:
        with torch.enable_grad():
            x = gradient.detach().requires_grad_()
            return torch.autograd.grad(self.probe(x).sum(), x)[0]

    def checkpointed_there(self, gradient: Tensor) -> Tensor:
        with torch.enable_grad():
            x = gradient.detach().requires_grad_()
            y = checkpoint(lambda x: self.probe[1](self.probe[0](x)), x, use_reentrant=False)
            return torch.autograd.grad(y.sum(), x)[0]


WHOLE = """
recompute Sequential
  recompute 0
  recompute 1"""

CALLS = {
    Called.once: WHOLE,
    Called.twice: WHOLE + WHOLE,
    Called.whole_and_in_part: f"{WHOLE}\nrecompute 0",
    Called.trained_there: f"""{WHOLE}
backward
  backward Sequential <- recompute
    backward 1 <- recompute
    backward 0 <- recompute""",
    Called.checkpointed_there: """
recompute Linear
recompute Tanh
backward
  recompute Linear
  recompute Tanh
  backward Tanh <- recompute
  backward Linear <- recompute""",
}


def steps_of(forward: Calling, model: nn.Module) -> set[str]:
    """Return how steps look that train `model`."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with capture_spans() as captured:
        for _ in range(STEPS):
            forward(torch.ones(3, 4)).sum().backward()
            optimizer.step()
    begin = "train.step\n"
    _, *steps = draw(captured).split(begin)
    assert len(steps) == STEPS
    return {begin + step.rstrip() for step in steps}


def forward_and_backward(model: str, calls: str) -> str:
    """Return how those of a `Model` look, with these calls in the backward of its middle."""
    return f"""
  forward {model} ->
    forward first ->
    forward middle ->
    forward last ->
  backward
    backward {model} <- forward
      backward last <- forward
      backward middle <- forward{indent(calls, 8 * " ")}
      backward first <- forward"""


@pytest.mark.parametrize("made", CALLS, ids=lambda made: made.__name__)
@pytest.mark.parametrize("way", WAYS)
def test_a_call_that_only_backward_makes_lies_where_backward_stands(
    way: Way, made: Callable[[Called, Tensor], Tensor]
) -> None:
    called = Called()
    model = Model(way, lambda gradient: made(called, gradient))

    def two_micro_batches(x: Tensor) -> Tensor:
        model(x).sum().backward()
        return model(x)

    assert steps_of(two_micro_batches, model) == {
        "train.step"
        + forward_and_backward("Model", CALLS[made])
        + forward_and_backward("Model#1", CALLS[made])
        + "\n  optimizer.step SGD"
    }


@pytest.mark.parametrize("way", WAYS)
def test_one_that_a_forward_makes_too_before_the_model(way: Way) -> None:
    probe = nn.Linear(4, 4)
    model = Model(way, lambda gradient: probe(gradient))
    assert steps_of(lambda x: model(probe(x)), model) == {
        tree("""
            train.step
              forward Linear ->
              forward Model ->
                forward first ->
                forward middle ->
                forward last ->
              backward
                backward Model <- forward
                  backward last <- forward
                  backward middle <- forward
                    recompute Linear
                  backward first <- forward
                backward Linear <- forward
              optimizer.step SGD
        """)
    }


@pytest.mark.parametrize("way", WAYS)
def test_one_that_a_forward_makes_too_behind_the_model(way: Way) -> None:
    probe = nn.Linear(4, 4)
    model = Model(way, lambda gradient: probe(gradient))
    assert steps_of(lambda x: probe(model(x)), model) == {
        tree("""
            train.step
              forward Model ->
                forward first ->
                forward middle ->
                forward last ->
              forward Linear ->
              backward
                backward Linear <- forward
                backward Model <- forward
                  backward last <- forward
                  backward middle <- forward
                    recompute Linear
                  backward first <- forward
              optimizer.step SGD
        """)
    }


def test_in_the_backward_of_modules_that_nothing_holds() -> None:
    first, last, probe = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(x: Tensor) -> Tensor:
        y = first(x)
        y.register_hook(lambda gradient: probe(gradient).detach())
        return last(y)

    assert steps_of(forward, nn.ModuleList([first, last])) == {
        tree("""
            train.step
              forward Linear ->
              forward Linear_1 ->
              backward
                backward Linear_1 <- forward
                backward Linear <- forward
                  recompute Linear_2
              optimizer.step SGD
        """)
    }
