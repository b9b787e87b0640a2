"""A checkpoint after an evaluation is in no step, however that came by its batches, unless a batch waits for one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from otel_torch_modules._recording.causes import checkpoints
from otel_torch_modules.testing import Captured, capture_spans
from tests.support.small_training import Net, batch, loader

Evaluate = Callable[[Net], object]
"""Its result lives on until the next evaluation."""


@pytest.fixture(autouse=True)
def however_short(no_pauses_of_the_machines: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no checkpoint be too short."""
    monkeypatch.setattr(checkpoints, "SHORTEST", 0)


VALIDATION = loader(4)


def all_of_them(model: Net) -> None:
    for inputs in VALIDATION:
        model(inputs)


def one_alone(model: Net) -> None:
    for inputs in loader(1):
        model(inputs)


def the_first_two(model: Net) -> None:
    for number, inputs in enumerate(VALIDATION):
        model(inputs)
        if number == 1:
            break


def until_the_third_has_come(model: Net) -> None:
    for number, inputs in enumerate(VALIDATION):
        if number == 2:
            break
        model(inputs)


def two_of_an_iterator_that_lives(model: Net) -> Iterator[torch.Tensor]:
    batches = iter(VALIDATION)
    for inputs in islice(batches, 2):
        model(inputs)
    return batches


def one_of_an_iterator_that_lives(model: Net) -> Iterator[torch.Tensor]:
    batches = iter(VALIDATION)
    model(next(batches))
    return batches


def a_list(model: Net) -> None:
    for inputs in 2 * [batch()]:
        model(inputs)


WAYS: list[Evaluate] = [
    all_of_them,
    one_alone,
    the_first_two,
    until_the_third_has_come,
    two_of_an_iterator_that_lives,
    a_list,
]


@pytest.mark.parametrize(
    ("batches", "evaluate"),
    [
        *(pytest.param(2 * [batch()], way, id=f"list-{way.__name__}") for way in WAYS),
        *(pytest.param(loader(2), way, id=f"loader-{way.__name__}") for way in WAYS),
        # After a list nothing tells it from a batch that waits for a step.
        pytest.param(loader(2), one_of_an_iterator_that_lives, id="loader-one_that_lives"),
    ],
)
def test_it_is_a_trace_by_itself_after_each_epoch(
    tmp_path: Path, batches: Iterable[torch.Tensor], evaluate: Evaluate
) -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    with capture_spans() as captured:
        for _ in range(2):
            for inputs in batches:
                train_step(model, sgd, inputs)
            living = evaluated(model, evaluate)
            torch.save(model.state_dict(), tmp_path / "state.pt")
        del living
    assert names(captured) == 2 * ["train.step", "train.step", "evaluate", "checkpoint.save"]
    apart_from_each_other(captured)
    before = [captured.trees[place].span.context for place in (1, 5)]
    links = [captured.trees[place].span.links[0].context for place in (3, 7)]
    assert links == before


@pytest.mark.parametrize(("evaluate", "waits"), [(all_of_them, 4), (one_alone, 1)])
def test_an_evaluation_has_all_its_waits(evaluate: Evaluate, waits: int) -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    with capture_spans() as captured:
        train_step(model, sgd, batch())
        evaluated(model, evaluate)
    _, evaluation = captured.trees
    assert [child.name for child in evaluation.children].count("dataloader.next") == waits


def test_it_is_one_where_the_epoch_broke_off(tmp_path: Path) -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    with capture_spans() as captured:
        for _ in range(2):
            for number, inputs in enumerate(loader(3)):
                if number == 2:
                    break
                train_step(model, sgd, inputs)
            torch.save(model.state_dict(), tmp_path / "state.pt")
    assert names(captured) == 2 * ["train.step", "train.step", "checkpoint.save"]
    apart_from_each_other(captured)


@pytest.mark.parametrize("evaluate", [all_of_them, the_first_two, a_list])
def test_it_is_in_the_step_whose_batch_waits_meanwhile(tmp_path: Path, evaluate: Evaluate) -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    with capture_spans() as captured:
        for number, inputs in enumerate(loader(3)):
            if number == 1:
                evaluated(model, evaluate)
                torch.save(model.state_dict(), tmp_path / "state.pt")
            train_step(model, sgd, inputs)
    steps = [tree for tree in captured.trees if tree.name == "train.step"]
    assert sorted(names(captured)) == ["evaluate", *3 * ["train.step"]]
    saved = ["checkpoint.save" in [child.name for child in one.children] for one in steps]
    assert saved == [False, True, False]


def test_it_is_in_the_step_whose_only_batch_of_an_iterator_waits(tmp_path: Path) -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = loader(3)
    with capture_spans() as captured:
        for number in range(3):
            inputs = next(iter(batches))
            if number == 1:
                evaluated(model, all_of_them)
                torch.save(model.state_dict(), tmp_path / "state.pt")
            train_step(model, sgd, inputs)
    assert sorted(names(captured)) == ["evaluate", *3 * ["train.step"]]


def train_step(model: Net, optimizer: torch.optim.Optimizer, inputs: Any) -> None:
    model(inputs).sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def evaluated(model: Net, evaluate: Evaluate) -> object:
    with torch.no_grad():
        return evaluate(model)


def names(captured: Captured) -> list[str]:
    return [tree.name for tree in captured.trees]


def apart_from_each_other(captured: Captured) -> None:
    """Check that no two traces overlap."""
    for before, after in pairwise(captured.trees):
        assert before.end <= after.start, (before.name, after.name)
