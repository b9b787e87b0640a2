"""Steps whose boundaries the program sets itself."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest
import torch

from otel_torch_modules import step as manual_step
from otel_torch_modules.testing import capture_spans
from tests.support.small_training import (
    BACKWARD,
    EVALUATION,
    FORWARD,
    STEP,
    Net,
    batch,
    optimizer,
    outline,
    step,
    train,
)
from tests.support.training_program import ENABLED, run, said, traces


def test_all_that_happens_inside_is_one_step(model: Net, sgd: torch.optim.SGD) -> None:
    with capture_spans() as captured:
        for index in (10, 20):
            with manual_step(index):
                for _ in range(2):
                    model(batch()).sum().backward()
                    sgd.step()
                with torch.no_grad():
                    model(batch())
    inside = FORWARD + BACKWARD + optimizer()
    assert outline(captured) == 2 * step(2 * inside, FORWARD)
    assert [tree.attributes["torch.step"] for tree in captured.trees] == [10, 20]


def test_without_an_index_steps_are_counted_on(model: Net, sgd: torch.optim.SGD) -> None:
    with capture_spans() as captured:
        with manual_step():
            train(model, sgd)
        with manual_step(7):
            train(model, sgd)
        with manual_step():
            train(model, sgd)
    assert outline(captured) == 3 * STEP
    assert [tree.attributes["torch.step"] for tree in captured.trees] == [0, 7, 8]


@pytest.mark.parametrize("others", [1, 2])
def test_what_an_optimizer_does_outside_of_them_is_not_counted(
    model: Net, sgd: torch.optim.SGD, others: int
) -> None:
    with capture_spans() as captured:
        for index in (7, None, None):
            with manual_step(index):
                train(model, sgd)
            for _ in range(others):
                train(model, sgd)
    steps = [tree for tree in captured.trees if tree.name == "train.step"]
    assert [tree.attributes["torch.step"] for tree in steps] == [7, 8, 9]


def test_the_first_one_ends_what_was_found_before_and_nothing_is_found_after(
    model: Net, sgd: torch.optim.SGD
) -> None:
    with capture_spans() as captured:
        train(model, sgd)
        with manual_step():
            train(model, sgd)
        train(model, sgd)  # outside all steps: a forward, and no more
    assert outline(captured) == 2 * STEP + EVALUATION


def test_evaluation_between_them_is_no_part_of_them(model: Net, sgd: torch.optim.SGD) -> None:
    with capture_spans() as captured:
        for _ in range(2):
            with manual_step():
                train(model, sgd)
            with torch.no_grad():
                model(batch())
    assert outline(captured) == 2 * (STEP + EVALUATION)


def test_an_exception_passes_through_and_the_step_carries_the_error(
    model: Net, sgd: torch.optim.SGD
) -> None:
    def broken() -> None:
        with manual_step():
            model(batch())
            raise KeyError("of the loop")

    with capture_spans() as captured:
        with pytest.raises(KeyError):
            broken()
        with manual_step():
            train(model, sgd)
    assert outline(captured) == step(FORWARD) + STEP
    assert [tree.span.status.is_ok for tree in captured.trees] == [False, True]


def test_data_and_optimizers_inside_belong_to_the_step(model: Net, sgd: torch.optim.SGD) -> None:
    loader = torch.utils.data.DataLoader(torch.ones(4, 4), batch_size=2)
    with capture_spans() as captured:
        batches = iter(loader)
        for _ in range(2):
            with manual_step():
                model(next(batches)).sum().backward()
                sgd.step()
    assert outline(captured) == 2 * step("dataloader.next\n", FORWARD, BACKWARD, optimizer())


def test_a_step_in_which_nothing_happens_is_not_sent_unless_it_may_be_compiled(
    tmp_path: Path,
) -> None:
    program = dedent("""
        import torch
        from otel_torch_modules import step
        with step(0):
            pass
        import torch._dynamo
        with step(1):
            pass
    """)
    said(run(tmp_path, program, **ENABLED))
    (root,) = traces(tmp_path)
    assert (root.outline(), root.attributes["torch.step"]) == (["train.step"], 1)


def test_where_nothing_is_traced_it_does_nothing(model: Net, sgd: torch.optim.SGD) -> None:
    with manual_step(3):
        train(model, sgd)
