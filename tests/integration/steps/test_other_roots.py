"""Steps in which the module that is trained is not the first one that is called, or not for long."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import NoReturn

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
    by_hand,
    evaluation,
    loader,
    optimizer,
    outline,
    step,
    train,
)
from tests.support.unhashable import Unhashable

pytestmark = pytest.mark.usefixtures("only_own_optimizers")


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


def heads(model: nn.Module, x: Tensor) -> None:
    """A backward for each of three heads on the same features."""
    for _ in range(3):
        model(x).sum().backward()


def tokens(model: nn.Module, x: Tensor) -> None:
    """A cell that is called for each token."""
    for _ in range(40):
        x = model(x)
    x.sum().backward()


@pytest.mark.parametrize("calls", [heads, tokens])
@pytest.mark.parametrize("schedule", [Schedule(), Schedule(skip_first=1)], ids=["all", "later"])
def test_what_is_called_many_times_after_another_is_in_its_step(
    calls: Callable[[nn.Module, Tensor], None], schedule: Schedule
) -> None:
    encoder, model = nn.Linear(4, 4), Net()
    sgd = torch.optim.SGD([*encoder.parameters(), *model.parameters()], lr=0.01)
    with capture_spans(Config(schedule=schedule)) as captured:
        for number in range(6):
            encoder(batch())
            calls(model, batch())
            if number != 3:
                sgd.step()
            sgd.zero_grad()
    found = range(schedule.skip_first, 6)
    assert micro_batches(captured.trees) == [(index, 1) for index in found]
    skipped = [tree.attributes.get("torch.step.skipped") for tree in captured.trees]
    assert skipped == [True if index == 3 else None for index in found]
    counts = {sum(span.name == "forward Net" for span in tree.children) for tree in captured.trees}
    assert len(counts) == 1


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


@pytest.mark.parametrize("gradients", [False, True])
def test_what_an_optimizer_holds_is_called_in_a_loop_that_has_none(gradients: bool) -> None:
    """A teacher that was trained before, or one that is asked with gradients and not trained."""
    teacher, model = Net(), Net()
    sgd = torch.optim.SGD(teacher.parameters(), lr=0.01)
    with capture_spans(Config(max_depth=1)) as captured:
        for _ in range(2):
            train(teacher, sgd)
        for _ in range(6):
            output = model(batch())
            with torch.set_grad_enabled(gradients):
                aim = teacher(batch()).detach()
            (output - aim).sum().backward()
            by_hand(model)
    backward = [sum(s.name == "backward" for s in tree.children) for tree in captured.trees]
    assert backward == (8 * [1] if not gradients else [1, 1, 6])  # which it may be training


# Modules that answer in odd ways what is asked of them.


class ParametersListed(Net):
    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        return list(super().parameters(recurse))  # type: ignore[return-value]


class ParametersRaise(Net):
    @property
    def parameters(self) -> NoReturn:  # type: ignore[override]
        raise RuntimeError("not now")


class LengthRaises(Net):
    def __len__(self) -> int:
        raise RuntimeError("not now")


ODD = [Unhashable, ParametersListed, ParametersRaise, LengthRaises]


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("optimizer_", [True, False])
@pytest.mark.parametrize("first", [True, False])
def test_an_odd_module_in_a_step(odd: type[nn.Module], optimizer_: bool, first: bool) -> None:
    model, other = Net(), odd()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01) if optimizer_ else None
    with capture_spans(Config(max_depth=1)) as captured:
        for number in range(12):
            if first:
                other(batch())
            output = model(batch())
            if not first:
                other(output)
            output.sum().backward()
            if sgd is None:
                by_hand(model)
            elif number % 4 == 3:
                sgd.step()
                sgd.zero_grad()
    numbers = [tree.attributes["torch.step"] for tree in captured.trees]
    assert numbers == [*range(3 if optimizer_ else 12)]


# What leads to a step.


@pytest.mark.parametrize("kinds", [[nn.Identity], [nn.Identity, nn.ReLU]])
def test_modules_that_are_made_for_one_call_lead_to_the_step(kinds: list[type[nn.Module]]) -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans() as captured:
        for _ in range(3):
            with torch.no_grad():
                for kind in kinds:
                    kind()(batch())
            model(batch()).sum().backward()
            sgd.step()
    leading = "".join(f"forward {kind.__name__}\n" for kind in kinds)
    assert outline(captured) == 3 * step(leading, FORWARD, BACKWARD, optimizer())


@pytest.mark.parametrize("kept", [False, True])
def test_a_module_that_is_made_anew_for_each_batch_of_an_evaluation_leads_nowhere(
    kept: bool,
) -> None:
    model, last = Net(), []
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans(Config(max_depth=1)) as captured:
        for _ in range(3):
            train(model, sgd)
            with torch.no_grad():
                for _ in range(3):
                    softmax = nn.Softmax(1)
                    softmax(model(batch()))
                    last[:] = [softmax] if kept else []
                    del softmax
    trained = step("forward Net\n", "backward\n  backward Net\n", optimizer())
    assert outline(captured) == 3 * (trained + evaluation(3 * "forward Net\nforward Softmax\n"))


@pytest.mark.parametrize(("count", "leads"), [(5, True), (32, True), (33, False)])
@pytest.mark.parametrize("loads", [False, True])
def test_an_ensemble_of_targets_leads_to_the_step_as_a_whole_or_not_at_all(
    count: int, leads: bool, loads: bool
) -> None:
    model, targets = Net(), [nn.Identity() for _ in range(count)]
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans(Config(max_depth=1)) as captured:
        train(model, sgd)
        for inputs in loader(2) if loads else [batch(), batch()]:
            with torch.no_grad():
                for target in targets:
                    target(inputs)
            train(model, sgd)
    within = [
        sum(s.name.startswith("forward Id") for s in tree.children) for tree in captured.trees
    ]
    assert within == ([0, count, count] if leads else [0, count, 0, count, 0])


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
