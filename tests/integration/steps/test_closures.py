"""What an optimizer's closure calls hangs below the optimizer's step, also where only a backward shows what it is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from otel_torch_modules import Config
from otel_torch_modules.testing import Captured, capture_spans
from tests.support.small_training import Net, batch, optimizer, outline, step, train

ROOTS = Config(max_depth=1, causes=())
ONCE = "forward Net\nbackward\n  backward Net\n"


class Target(Net):
    """Is called, and never trained."""


class Other(Net):
    """Is trained before."""


def lbfgs(parameters: list[Tensor]) -> torch.optim.Optimizer:
    return torch.optim.LBFGS(parameters, max_iter=2)


def update(model: nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor) -> None:
    def closure() -> float:
        optimizer.zero_grad()
        loss = model(inputs).pow(2).mean()
        loss.backward()
        return loss.item()

    optimizer.step(closure)


def steps(captured: Captured) -> str:
    outline(captured)  # checks
    return "".join(tree.outline() + "\n" for tree in captured.trees if tree.name == "train.step")


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("of_the_model", [True, False])
@pytest.mark.parametrize("before", [0, 2])
def test_every_forward_of_every_step(training: bool, of_the_model: bool, before: int) -> None:
    model = Net().train(training).requires_grad_(of_the_model)
    inputs = batch().requires_grad_(not of_the_model)
    updated = lbfgs([*model.parameters()] if of_the_model else [inputs])
    other = Other()
    sgd = torch.optim.SGD(other.parameters(), lr=0.01)
    with capture_spans(ROOTS) as captured:
        for _ in range(before):
            train(other, sgd)
        for _ in range(3):
            update(model, updated, inputs)
    calls = [len(tree.find("forward Net")) for tree in captured.trees][before:]
    each = [step(optimizer("LBFGS", number * ONCE)) for number in calls]
    ordinary = step("forward Other\n", "backward\n  backward Other\n", optimizer())
    assert outline(captured) == before * ordinary + "".join(each)
    assert len(calls) == 3


def test_after_an_evaluation() -> None:
    model = Net().eval().requires_grad_(False)
    inputs = batch().requires_grad_()
    adam = torch.optim.Adam([inputs])
    with capture_spans(ROOTS) as captured:
        with torch.no_grad():
            model(batch())
        for _ in range(2):
            update(model, adam, inputs)
    assert steps(captured) == 2 * step(optimizer("Adam", ONCE))


def test_what_a_target_network_is_asked_within() -> None:
    model, target = Net(), Target().eval()
    adam = torch.optim.Adam(model.parameters())

    def closure() -> float:
        with torch.no_grad():
            aim = target(batch())
        loss = (model(batch()) - aim).sum()
        loss.backward()
        return loss.item()

    with capture_spans(ROOTS) as captured:
        for _ in range(3):
            adam.step(closure)
    assert outline(captured) == 3 * step(optimizer("Adam", "forward Target\n", ONCE))


@pytest.mark.usefixtures("nothing_compiled")
@pytest.mark.parametrize("before", [0, 2])
def test_forwards_without_gradients(before: int) -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)

    def closure() -> float:
        with torch.no_grad():
            loss = model(batch()).sum()
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        return loss.item()

    with capture_spans(ROOTS) as captured:
        for _ in range(before):
            train(model, sgd)
        for _ in range(3):
            sgd.step(closure)
    within = step(optimizer("SGD", "forward Net\n"))
    assert outline(captured) == before * step(ONCE, optimizer()) + 3 * within


def test_what_was_called_before_is_beside_it() -> None:
    """The first forward begins before the optimizer's step, the second within."""
    model = Net().eval().requires_grad_(False)
    inputs = batch().requires_grad_()
    sgd = torch.optim.SGD([inputs], lr=0.01)
    with capture_spans(ROOTS) as captured:
        before = model(inputs)

        def closure() -> float:
            loss = (model(inputs) + before).sum()
            loss.backward()
            return loss.item()

        sgd.step(closure)
    backward = "backward\n" + 2 * "  backward Net\n"
    within = optimizer("SGD", "forward Net\n", backward)
    assert steps(captured) == step("forward Net\n", within)
