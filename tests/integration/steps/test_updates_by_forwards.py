"""Loops without a backward: forwards alone lead to an optimizer's step, which is a step of its own with them."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import torch
from torch import nn

from otel_torch_modules import Config, Schedule
from otel_torch_modules.testing import Captured, CapturedSpan, capture_spans
from tests.support.small_training import Net, batch, loader, optimizer, outline, step, train

pytestmark = pytest.mark.usefixtures("nothing_compiled")

ROOTS = Config(max_depth=1)
ONCE = "forward Net\n"
ORDINARY = step(ONCE, "backward\n  backward Net\n", optimizer())
UPDATES = 5


def look(model: nn.Module, forwards: int = 2) -> None:
    """Call the model without gradients and write some, as zeroth-order methods do."""
    with torch.no_grad():
        for _ in range(forwards):
            model(batch())
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)


def update(model: nn.Module, sgd: torch.optim.Optimizer, forwards: int = 2) -> None:
    look(model, forwards)
    sgd.step()
    sgd.zero_grad()


def of_forwards(forwards: int = 2) -> str:
    return step(forwards * ONCE, optimizer())


def sgd_of(*modules: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD([p for module in modules for p in module.parameters()], lr=0.01)


Loop = Callable[[nn.Module], str]
"""Trains, and returns what is expected."""


def from_the_first_step_on(model: nn.Module) -> str:
    sgd = sgd_of(model)
    for _ in range(UPDATES):
        update(model, sgd)
    return UPDATES * of_forwards()


def after_steps_with_a_backward(model: nn.Module) -> str:
    sgd = sgd_of(model)
    for _ in range(2):
        train(model, sgd)
    for _ in range(UPDATES):
        update(model, sgd)
    return 2 * ORDINARY + UPDATES * of_forwards()


def in_turn_with_steps_with_a_backward(model: nn.Module) -> str:
    sgd = sgd_of(model)
    for _ in range(3):
        train(model, sgd)
        update(model, sgd)
        update(model, sgd)
    return 3 * (ORDINARY + 2 * of_forwards())


def in_evaluation_mode(model: nn.Module) -> str:
    model.eval()
    return after_steps_with_a_backward(model)


def with_one_forward_each(model: nn.Module) -> str:
    sgd = sgd_of(model)
    train(model, sgd)
    for _ in range(UPDATES):
        update(model, sgd, forwards=1)
    return ORDINARY + UPDATES * of_forwards(1)


def with_an_optimizer_for_each(model: nn.Module) -> str:
    train(model, sgd_of(model))
    for _ in range(UPDATES):
        update(model, sgd_of(model))
    return ORDINARY + UPDATES * of_forwards()


def with_two_optimizers_in_a_row(model: nn.Module) -> str:
    weight, bias = (torch.optim.SGD([p], lr=0.01) for p in model.parameters())
    for _ in range(UPDATES):
        update(model, weight)
        bias.step()
    return UPDATES * step(2 * ONCE, optimizer(), optimizer())


def with_two_optimizers_in_turn(model: nn.Module) -> str:
    both = [torch.optim.SGD([p], lr=0.01) for p in model.parameters()]
    for index in range(2 * UPDATES):
        update(model, both[index % 2])
    return 2 * UPDATES * of_forwards()


def within_another_optimizer(model: nn.Module) -> str:
    inner = sgd_of(model)

    class Outer(torch.optim.Optimizer):
        def step(self) -> None:  # type: ignore[override]
            inner.step()

    outer = Outer(model.parameters(), {})
    for _ in range(UPDATES):
        update(model, outer)
    return UPDATES * step(2 * ONCE, optimizer("Outer", optimizer()))


def with_a_loader(model: nn.Module) -> str:
    sgd = sgd_of(model)
    train(model, sgd)
    for _ in loader(UPDATES):
        update(model, sgd)
    return ORDINARY + UPDATES * step("dataloader.next\n", 2 * ONCE, optimizer())


@pytest.mark.parametrize(
    "loop",
    [
        from_the_first_step_on,
        after_steps_with_a_backward,
        in_turn_with_steps_with_a_backward,
        in_evaluation_mode,
        with_one_forward_each,
        with_an_optimizer_for_each,
        with_two_optimizers_in_a_row,
        with_two_optimizers_in_turn,
        within_another_optimizer,
        with_a_loader,
    ],
)
def test_each_is_a_step_with_its_forwards(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    with capture_spans(ROOTS) as captured:
        expected = loop(Net())
    assert outline(captured) == expected
    assert numbers(captured) == [*range(expected.count("train.step"))]
    assert warnings(caplog) == []


def numbers(captured: Captured) -> list[object]:
    return [tree.attributes["torch.step"] for tree in steps(captured)]


def steps(captured: Captured) -> list[CapturedSpan]:
    return [tree for tree in captured.trees if tree.name == "train.step"]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]


def test_one_step_begins_where_the_one_before_has_ended() -> None:
    model = Net()
    with capture_spans(ROOTS) as captured:
        after_steps_with_a_backward(model)
    found = steps(captured)[2:]
    assert [one.end for one in found[:-1]] == [one.start for one in found[1:]]


def test_an_evaluation_between_is_one() -> None:
    model = Net()
    sgd = sgd_of(model)
    with capture_spans(ROOTS) as captured:
        train(model, sgd)
        for _ in range(3):
            update(model, sgd)
            update(model, sgd)
            with torch.no_grad():
                for _ in range(10):
                    model(batch())
    evaluation = "evaluate\n" + 10 * f"  {ONCE}"
    assert outline(captured) == ORDINARY + 3 * (2 * of_forwards() + evaluation)


def test_of_very_many_forwards_the_last_are_in_the_step() -> None:
    model = Net()
    sgd = sgd_of(model)
    with capture_spans(ROOTS) as captured:
        train(model, sgd)
        for _ in range(3):
            update(model, sgd, forwards=100)
    assert numbers(captured) == [0, 1, 2, 3]
    assert outline(captured).count(ONCE) == 1 + 3 * 100
    assert [len(one.find("forward Net")) for one in steps(captured)[1:]] == 3 * [32]


@pytest.mark.parametrize(
    "config",
    [
        Config(schedule=Schedule(wait=2, active=1)),
        Config(phases=("train",)),
        Config(phases=("eval",)),
    ],
)
@pytest.mark.parametrize("loop", [from_the_first_step_on, after_steps_with_a_backward])
def test_those_that_are_left_out_count(config: Config, loop: Loop) -> None:
    with capture_spans(config) as captured:
        expected = loop(Net()).count("train.step")
    recorded = "train" in config.phases
    assert numbers(captured) == [
        index for index in range(expected) if recorded and config.schedule.records(index)
    ]


def test_an_optimizer_that_comes_late_after_an_evaluation_is_of_the_step_before() -> None:
    model = Net()
    weight, bias = (torch.optim.SGD([p], lr=0.01) for p in model.parameters())
    with capture_spans(ROOTS) as captured:
        for _ in range(3):
            train(model, weight)
            with torch.no_grad():
                model(batch())
            bias.step()
    assert numbers(captured) == [0, 1, 2]
    assert [len(one.find("optimizer.step SGD")) for one in steps(captured)] == [2, 2, 2]


def test_updates_for_which_nothing_is_called_do_not_lengthen_a_step_without_end() -> None:
    model = Net()
    sgd = sgd_of(model)
    with capture_spans(ROOTS) as captured:
        train(model, sgd)
        for _ in range(200):
            sgd.step()
        train(model, sgd)
    assert numbers(captured) == [0, 1]
    assert [len(one.find("optimizer.step SGD")) for one in steps(captured)] == [33, 1]


def test_an_evaluation_among_updates_for_which_nothing_is_called_makes_none_a_step() -> None:
    model = Net()
    sgd = sgd_of(model)
    with capture_spans(ROOTS) as captured:
        train(model, sgd)
        for index in range(9):
            sgd.step()
            if index % 3 == 2:
                with torch.no_grad():
                    model(batch())
    assert numbers(captured) == [0]
