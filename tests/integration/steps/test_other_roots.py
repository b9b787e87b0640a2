"""Steps in which the module that is trained is not the first one that is called, or not for long."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from otel_torch_modules import Config, Schedule
from otel_torch_modules.testing import CapturedSpan, capture_spans
from tests.support.small_training import (
    BACKWARD,
    FORWARD,
    Net,
    batch,
    evaluation,
    optimizer,
    outline,
    step,
)


@pytest.fixture(autouse=True)
def only_own_optimizers() -> Iterator[None]:
    """Other tests' models are gone, and their optimizers."""
    gc.collect()
    return iter([None])


def by_hand(model: nn.Module) -> None:
    """Update the parameters as a program without ``torch.optim`` does."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 0.01 * parameter.grad
                parameter.grad = None


Before = Callable[[], Callable[[Tensor], object]]


def nothing() -> Callable[[Tensor], object]:
    return lambda x: None


def a_layer_without_parameters() -> Callable[[Tensor], object]:
    return nn.Dropout(0.1)


def a_model_that_nobody_trains() -> Callable[[Tensor], object]:
    return Net()


def one_made_for_this_call() -> Callable[[Tensor], object]:
    return lambda x: nn.Dropout(0.1)(x)


def one_kept_until_the_next() -> Callable[[Tensor], object]:
    kept: list[nn.Module] = []

    def call(x: Tensor) -> None:
        kept[:] = [nn.Dropout(0.1)]
        kept[0](x)

    return call


def two_made_for_this_call() -> Callable[[Tensor], object]:
    return lambda x: nn.Flatten()(nn.Dropout(0.1)(x))


BEFORE: dict[Before, str] = {
    nothing: "",
    a_layer_without_parameters: "forward Dropout\n",
    a_model_that_nobody_trains: FORWARD,
    one_made_for_this_call: "forward Dropout\n",
    one_kept_until_the_next: "forward Dropout\n",
    two_made_for_this_call: "forward Dropout\nforward Flatten\n",
}
before_each = pytest.mark.parametrize("before", BEFORE)


def named_apart(outline: str) -> str:
    """Return `outline` with one name for all nets."""
    return outline.replace("Net_1", "Net")


def micro_batches(trees: list[CapturedSpan]) -> list[tuple[object, object]]:
    return [
        (tree.attributes["torch.step"], tree.attributes["torch.step.micro_batches"])
        for tree in trees
    ]


# An optimizer holds what is trained.


@before_each
@pytest.mark.parametrize("accumulated", [1, 4])
@pytest.mark.parametrize("schedule", [Schedule(), Schedule(skip_first=1)], ids=["all", "later"])
def test_an_optimizer_ends_the_step(
    before: Before, accumulated: int, schedule: Schedule, caplog: pytest.LogCaptureFixture
) -> None:
    def loop() -> None:  # of which nothing is left when the last step leaves
        model, first = Net(), before()
        sgd = torch.optim.SGD(model.parameters(), lr=0.01)
        for _ in range(4):
            for _ in range(accumulated):
                first(batch())
                model(batch()).sum().backward()
            sgd.step()
            sgd.zero_grad()

    with capture_spans(Config(schedule=schedule)) as captured:
        loop()
    once = step(accumulated * (BEFORE[before] + FORWARD + BACKWARD), optimizer())
    found = range(schedule.skip_first, 4)
    assert named_apart(outline(captured)) == len(found) * once
    assert micro_batches(captured.trees) == [(index, accumulated) for index in found]
    assert caplog.records == []


@before_each
def test_a_batch_whose_gradients_are_dropped_is_a_step_of_its_own(before: Before) -> None:
    model, first = Net(), before()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans(Config(max_depth=1)) as captured:
        for number in range(6):
            first(batch())
            model(batch()).sum().backward()
            if number % 3 != 2:
                sgd.step()
            sgd.zero_grad()
    skipped = [tree.attributes.get("torch.step.skipped", False) for tree in captured.trees]
    assert micro_batches(captured.trees) == [(index, 1) for index in range(6)]
    assert skipped == [False, False, True, False, False, False]


# Nobody says when a step is over.

Config_ = pytest.mark.parametrize(
    "config", [Config(), Config(detail_ranks="1")], ids=["all", "phases"]
)


@before_each
@Config_
def test_one_call_of_another_before_a_loop_without_an_optimizer(
    before: Before, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    model, first = Net(), before()
    with caplog.at_level(logging.WARNING, "otel_torch_modules"), capture_spans(config) as captured:
        first(batch())
        for _ in range(12):
            model(batch()).sum().backward()
            by_hand(model)
    forward = [span.name for tree in captured.trees for span in tree.children]
    assert micro_batches(captured.trees) == [(index, 1) for index in range(12)]
    assert sum(name.startswith("forward Net") for name in forward) - 12 == (
        before is a_model_that_nobody_trains
    )
    assert forward.count("backward") == 12
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_part_of_the_model_is_called_before_the_loop() -> None:
    """As where a model counts the features that a part of it has."""
    model = nn.Sequential(Net(), nn.Linear(4, 1))
    with capture_spans(Config(max_depth=1)) as captured:
        model[0](batch())
        for _ in range(12):
            model(batch()).sum().backward()
            by_hand(model)
    once = ("forward Sequential\n", "backward\n  backward Sequential\n")
    assert outline(captured) == step("forward Net\n", *once) + 11 * step(*once)


@Config_
@pytest.mark.parametrize("criterion", [False, True])
def test_a_model_for_each_iteration(config: Config, criterion: bool) -> None:
    loss = nn.MSELoss()
    with capture_spans(config) as captured:
        for _ in range(12):
            model = Net()
            output = model(batch())
            (loss(output, batch()) if criterion else output.sum()).backward()
            del model
    assert micro_batches(captured.trees) == [(index, 1) for index in range(12)]
    for tree in captured.trees:
        names = [span.name.removesuffix("_1") for span in tree.children if span.name != "between"]
        assert names == ["forward Net", *(["forward MSELoss"] if criterion else []), "backward"]


@pytest.mark.parametrize(
    "before", [each for each in BEFORE if each is not nothing], ids=lambda each: each.__name__
)
def test_another_before_each_iteration_without_an_optimizer(before: Before) -> None:
    model, first = Net(), before()
    with capture_spans() as captured:
        for _ in range(12):
            first(batch())
            model(batch()).sum().backward()
            by_hand(model)
    assert [tree.attributes["torch.step"] for tree in captured.trees] == [*range(12)]
    # That what has no graph begins an iteration is known from the third one on.
    for index, tree in [*enumerate(captured.trees)][3:]:
        assert micro_batches([tree]) == [(index, 1)]
        assert named_apart(tree.outline()) + "\n" == step(BEFORE[before] + FORWARD + BACKWARD)


def test_steps_that_are_left_out_end_too() -> None:
    """Their backward passes are not seen: each forward of what is called again and again is taken for a step."""
    model = Net()
    with capture_spans(Config(schedule=Schedule(skip_first=40))) as captured:
        Net()(batch())
        for _ in range(60):
            model(batch()).sum().backward()
            by_hand(model)
    first, *_, last = micro_batches(captured.trees)
    assert len(captured.trees) >= 19
    assert (first, last) == ((40, 1), (39 + len(captured.trees), 1))


@before_each
@Config_
def test_a_server_in_training_mode(before: Before, config: Config) -> None:
    model, first = Net(), before()
    with capture_spans(config) as captured:
        first(batch())
        for _ in range(100):
            model(batch())
    assert {tree.name for tree in captured.trees} <= {
        "forward Net", "forward Net_1", "forward Dropout", "forward Flatten"
    }  # fmt: skip
    called = [tree.name for tree in captured.trees]
    assert len(called) == 100 + BEFORE[before].count("forward") // (
        3 if before is a_model_that_nobody_trains else 1
    )


# What leads to a step.


@pytest.mark.parametrize("count", [1, 2, 3])
def test_modules_that_are_made_for_one_call_lead_to_the_step(count: int) -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans() as captured:
        for _ in range(3):
            with torch.no_grad():
                for _ in range(count):
                    nn.Identity()(batch())
            model(batch()).sum().backward()
            sgd.step()
    leading = count * "forward Identity\n"
    assert outline(captured) == 3 * step(leading, FORWARD, BACKWARD, optimizer())


def test_an_evaluation_of_many_is_none_of_the_step_that_follows() -> None:
    model, other = Net(), nn.Identity()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans() as captured:
        for _ in range(3):
            with torch.no_grad():
                other(batch()), other(batch())
            model(batch()).sum().backward()
            sgd.step()
    trained = step(FORWARD, BACKWARD, optimizer())
    evaluated = evaluation("forward Identity\n", "forward Identity\n")
    assert outline(captured) == 2 * "forward Identity\n" + trained + 2 * (evaluated + trained)
