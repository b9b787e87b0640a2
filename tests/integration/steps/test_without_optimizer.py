"""Loops in which no optimizer of ``torch.optim`` steps."""

from __future__ import annotations

import logging

import pytest
import torch

from otel_torch_modules import step as manual_step
from otel_torch_modules._recording.steps import FORWARDS_WITHOUT_OPTIMIZER
from otel_torch_modules.testing import capture_spans
from tests.integration.steps.programs import BACKWARD, FORWARD, STEP, Net, batch, outline, step

ONCE = FORWARD + BACKWARD


def test_after_enough_forwards_each_is_a_step_and_the_log_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = Net()
    with caplog.at_level(logging.INFO, "otel_torch_modules"), capture_spans() as captured:
        for _ in range(FORWARDS_WITHOUT_OPTIMIZER + 3):
            model(batch()).sum().backward()
    assert outline(captured) == step(ONCE * FORWARDS_WITHOUT_OPTIMIZER) + 3 * step(ONCE)
    assert [record.getMessage() for record in caplog.records] == [
        "No torch.optim optimizer has stepped in 32 root forwards: from now on each root forward "
        "with its backward is a step; `with otel_torch_modules.step(index):` says it exactly"
    ]


def test_an_optimizer_that_comes_late_makes_the_steps_again() -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans() as captured:
        for _ in range(FORWARDS_WITHOUT_OPTIMIZER + 1):
            model(batch()).sum().backward()
        for _ in range(2):
            for _ in range(2):
                model(batch()).sum().backward()
            sgd.step()
    late = step(ONCE, "optimizer.step SGD\n")
    accumulated = step(2 * ONCE, "optimizer.step SGD\n")
    assert outline(captured) == (
        step(ONCE * FORWARDS_WITHOUT_OPTIMIZER) + 2 * step(ONCE) + late + accumulated
    )


def test_a_loop_that_accumulates_more_than_that_once_it_has_stepped_is_believed() -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans() as captured:
        model(batch()).sum().backward()
        sgd.step()
        for _ in range(FORWARDS_WITHOUT_OPTIMIZER + 8):
            model(batch()).sum().backward()
        sgd.step()
    many = step(ONCE * (FORWARDS_WITHOUT_OPTIMIZER + 8), "optimizer.step SGD\n")
    assert outline(captured) == STEP + many


def test_steps_set_by_hand_need_no_optimizer(caplog: pytest.LogCaptureFixture) -> None:
    model = Net()
    with caplog.at_level(logging.INFO, "otel_torch_modules"), capture_spans() as captured:
        for index in range(FORWARDS_WITHOUT_OPTIMIZER + 1):
            with manual_step(index):
                model(batch()).sum().backward()
    assert outline(captured) == (FORWARDS_WITHOUT_OPTIMIZER + 1) * step(ONCE)
    assert caplog.records == []


def test_training_whose_gradients_are_asked_for_is_found_too() -> None:
    model = Net()
    with capture_spans() as captured:
        for _ in range(FORWARDS_WITHOUT_OPTIMIZER + 2):
            torch.autograd.grad(model(batch()).sum(), list(model.parameters()))
    assert outline(captured) == step(ONCE * FORWARDS_WITHOUT_OPTIMIZER) + 2 * step(ONCE)
