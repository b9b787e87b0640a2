"""Loops in which no optimizer of ``torch.optim`` steps, and those that only look so."""

from __future__ import annotations

import copy
import gc
import logging

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from otel_torch_modules import Config, Schedule
from otel_torch_modules import step as manual_step
from otel_torch_modules.testing import capture_spans
from tests.support.small_training import BACKWARD, FORWARD, STEP, Net, batch, by_hand, outline, step

ONCE = FORWARD + BACKWARD
SAID = (
    "2 backward passes of Net have ended without a step of an optimizer, and no torch.optim optimizer holds its "
    "parameters: each forward with its backward is taken for a step. "
    "`with otel_torch_modules.step(index):` around each step of the loop says where it is"
)


pytestmark = pytest.mark.usefixtures("only_own_optimizers")


def warnings(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in caplog.records]


@pytest.mark.parametrize("others", [False, True])
def test_each_forward_with_its_backward_is_a_step_and_the_log_says_so(
    caplog: pytest.LogCaptureFixture, others: bool
) -> None:
    model = Net()
    other = torch.optim.SGD(Net().parameters()) if others else None  # holds other parameters
    with caplog.at_level(logging.INFO, "otel_torch_modules"), capture_spans() as captured:
        for _ in range(18):
            model(batch()).sum().backward()
            by_hand(model)
    assert outline(captured) == 18 * step(ONCE)
    assert [tree.attributes["torch.step"] for tree in captured.trees] == list(range(18))
    assert {tree.attributes["torch.step.micro_batches"] for tree in captured.trees} == {1}
    assert warnings(caplog) == [("WARNING", SAID)]
    del other


def test_an_optimizer_of_a_class_of_its_own() -> None:
    class Own:
        def __init__(self, model: nn.Module) -> None:
            self.model = model

        def step(self) -> None:
            by_hand(self.model)

    model = Net()
    own = Own(model)
    with capture_spans() as captured:
        for _ in range(5):  # two views of each batch: both are one step's
            (model(batch()) + model(batch())).sum().backward()
            own.step()
    both = FORWARD + FORWARD + BACKWARD + "".join(BACKWARD.splitlines(True)[1:])
    assert outline(captured) == 5 * step(both)


@pytest.mark.parametrize("criterion", [False, True])
def test_what_lies_between_the_first_two_is_where_it_was(criterion: bool) -> None:
    """They were one step until the third forward: its waits for data, other roots and phases are parted with it."""
    model, loss = Net(), nn.MSELoss()
    loader = DataLoader(TensorDataset(torch.ones(10, 4)), batch_size=2)
    with capture_spans() as captured:
        for (inputs,) in loader:
            output = model(inputs)
            (loss(output, inputs) if criterion else output.sum()).backward()
            by_hand(model)
    wait, criterion_forward, criterion_backward = "dataloader.next\n", "", ""
    if criterion:
        criterion_forward, criterion_backward = "forward MSELoss\n", "  backward MSELoss\n"
    backward = BACKWARD.replace("backward\n", "backward\n" + criterion_backward, 1)
    each = step(wait, FORWARD, criterion_forward, backward)
    assert outline(captured) == 5 * each


def test_an_evaluation_between_the_first_two_begins_no_step() -> None:
    model = Net()
    with capture_spans(Config(max_depth=1)) as captured:
        for _ in range(5):
            model(batch()).sum().backward()
            by_hand(model)
            with torch.no_grad():
                model(batch())
    once = "forward Net\nbackward\n  backward Net\n"
    # Until the third forward they were no evaluation: the step might have gone on.
    within = step(once, "forward Net\n")
    assert outline(captured) == 2 * within + 3 * (step(once) + "evaluate\n  forward Net\n")


def test_phases_alone_are_parted_too() -> None:
    model = Net()
    with capture_spans(Config(detail_ranks="1")) as captured:
        for _ in range(5):
            model(batch()).sum().backward()
            by_hand(model)
    assert outline(captured) == 5 * step("forward Net\n", "backward\n  backward Net\n")


@pytest.mark.parametrize("schedule", [Schedule(skip_first=1), Schedule(wait=1, active=1)], ids=str)
def test_steps_that_are_left_out_count_too(schedule: Schedule) -> None:
    model = Net()
    with capture_spans(Config(schedule=schedule)) as captured:
        for _ in range(8):
            model(batch()).sum().backward()
            by_hand(model)
    found = [tree.attributes["torch.step"] for tree in captured.trees]
    # Of the first two, one step till the third forward, the second is not seen.
    assert found == [index for index in range(2, 8) if schedule.records(index)]


@pytest.mark.parametrize("schedule", [Schedule(), Schedule(wait=2, active=1)], ids=str)
def test_one_model_is_updated_by_hand_and_another_by_an_optimizer(schedule: Schedule) -> None:
    """As where a policy follows its natural gradient, and its baseline has an optimizer."""
    policy, baseline = Net(), Net()
    sgd = torch.optim.SGD(baseline.parameters(), lr=0.01)
    with capture_spans(Config(max_depth=1, schedule=schedule)) as captured:
        for _ in range(4):
            for _ in range(3):
                policy(batch()).sum().backward()
                by_hand(policy)
            for _ in range(2):
                baseline(batch()).sum().backward()
                sgd.step()
                sgd.zero_grad()
    found = [
        (tree.attributes["torch.step"], sum(span.name == "backward" for span in tree.children))
        for tree in captured.trees
    ]
    assert found == [(index, 1) for index in range(20) if schedule.records(index)]


def test_an_optimizer_that_comes_late_makes_the_steps_again() -> None:
    model = Net()
    with capture_spans() as captured:
        for _ in range(4):
            model(batch()).sum().backward()
        sgd = torch.optim.SGD(model.parameters(), lr=0.01)
        for _ in range(2):
            for _ in range(3):
                model(batch()).sum().backward()
            sgd.step()
    late = step(ONCE, "optimizer.step SGD\n")
    accumulated = step(3 * ONCE, "optimizer.step SGD\n")
    assert outline(captured) == 6 * step(ONCE) + late + accumulated


@pytest.mark.parametrize("schedule", [Schedule(), Schedule(skip_first=1)])
@pytest.mark.parametrize("frozen", [False, True])
def test_an_accumulation_of_64_from_the_first_step_on(schedule: Schedule, frozen: bool) -> None:
    model = nn.Sequential(nn.Linear(4, 4).requires_grad_(not frozen), Net())
    sgd = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01)
    with capture_spans(Config(schedule=schedule, max_depth=1)) as captured:
        for _ in range(4):
            for _ in range(64):
                model(batch()).sum().backward()
            sgd.step()
            sgd.zero_grad()
    found = [
        (tree.attributes["torch.step"], tree.attributes["torch.step.micro_batches"])
        for tree in captured.trees
    ]
    assert found == [(index, 64) for index in range(schedule.skip_first, 4)]


def test_a_loop_that_accumulates_more_once_it_has_stepped_is_believed() -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans() as captured:
        model(batch()).sum().backward()
        sgd.step()
        for _ in range(40):
            model(batch()).sum().backward()
        sgd.step()
    assert outline(captured) == STEP + step(40 * ONCE, "optimizer.step SGD\n")


def test_an_optimizer_that_is_gone_holds_nothing() -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans() as captured:
        model(batch()).sum().backward()
        sgd.step()
        del sgd
        gc.collect()
        for _ in range(4):
            model(batch()).sum().backward()
    assert outline(captured) == STEP + 4 * step(ONCE)


def test_steps_set_by_hand_need_no_optimizer(caplog: pytest.LogCaptureFixture) -> None:
    model = Net()
    with caplog.at_level(logging.INFO, "otel_torch_modules"), capture_spans() as captured:
        for index in range(5):
            with manual_step(index):
                model(batch()).sum().backward()
    assert outline(captured) == 5 * step(ONCE)
    assert caplog.records == []


def test_training_whose_gradients_are_asked_for_is_found_too() -> None:
    model = Net()
    with capture_spans() as captured:
        for _ in range(4):
            torch.autograd.grad(model(batch()).sum(), list(model.parameters()))
    assert outline(captured) == 4 * step(ONCE)


def test_an_inner_loop_whose_weights_are_computed_is_in_the_step_of_the_outer_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Model-agnostic meta-learning."""
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans() as captured:
        for _ in range(3):
            weights = dict(model.named_parameters())
            for _ in range(4):
                loss = torch.func.functional_call(model, weights, (batch(),)).sum()
                gradients = torch.autograd.grad(loss, [*weights.values()], create_graph=True)
                weights = {
                    name: weight - 0.01 * gradient
                    for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
                }
            torch.func.functional_call(model, weights, (batch(),)).sum().backward()
            sgd.step()
            sgd.zero_grad()
    assert [tree.attributes.get("torch.step.micro_batches") for tree in captured.trees] == 3 * [5]
    assert warnings(caplog) == []


def test_inner_loops_by_hand_are_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """Each trains a copy of its own."""
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans() as captured:
        for _ in range(3):
            copied = copy.deepcopy(model)
            for _ in range(4):
                copied(batch()).sum().backward()
                by_hand(copied)
            for parameter in model.parameters():
                parameter.grad = torch.zeros_like(parameter)
            sgd.step()
    assert outline(captured) == 3 * (3 * step(ONCE) + STEP)
    assert warnings(caplog) == [("WARNING", SAID)]


def test_a_proxy_that_raises_when_it_is_asked_what_it_is_does_no_harm() -> None:
    asked = []

    class Proxy:
        @property  # type: ignore[misc]
        def __class__(self) -> type:
            asked.append(None)
            raise ReferenceError("gone")

    proxies = [Proxy() for _ in range(3)]
    model = Net()
    with capture_spans() as captured:
        for _ in range(4):
            model(batch()).sum().backward()
    assert outline(captured) == 4 * step(ONCE)
    assert (len(proxies), asked) == (3, [])
