"""Loops that are left in the middle of a step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from otel_torch_modules.testing import capture_spans
from tests.support.small_training import (
    BACKWARD,
    FORWARD,
    STEP,
    Net,
    batch,
    outline,
    step,
    train,
)
from tests.support.training_program import ENABLED, TRAIN, outlines, run, traces
from tests.support.training_program import STEP as STEP_LINES


def test_a_step_left_by_break_lasts_until_the_next_optimizer_step(
    model: Net, sgd: torch.optim.SGD
) -> None:
    with capture_spans() as captured:
        for _ in range(2):
            model(batch()).sum().backward()
            break
        train(model, sgd)
    expected = step(2 * (FORWARD + BACKWARD), "optimizer.step SGD\n")
    assert outline(captured) == expected


def test_a_step_left_for_good_is_sent_when_tracing_stops(model: Net) -> None:
    with capture_spans() as captured:
        model(batch()).sum().backward()
        model(batch())
    assert outline(captured) == step(FORWARD, BACKWARD, FORWARD)


def test_an_exception_of_the_loop_leaves_the_next_step_whole(
    model: Net, sgd: torch.optim.SGD
) -> None:
    def loop() -> None:
        for _ in range(2):
            model(batch()).sum().backward()
            raise KeyError("of the loop")

    with capture_spans() as captured:
        with pytest.raises(KeyError):
            loop()
        sgd.step()
        train(model, sgd)
    assert outline(captured) == 2 * STEP


@pytest.mark.parametrize(
    ("moment", "ending", "code"),
    [
        ("after forward", "break", 0),
        ("after forward", "raise KeyError('end')", 1),
        ("after backward", "sys.exit(3)", 3),
        ("after the optimizer", "sys.exit(0)", 0),
    ],
)
def test_a_process_that_ends_in_a_step_sends_what_there_is(
    tmp_path: Path, moment: str, ending: str, code: int
) -> None:
    source = f"""{TRAIN}
import sys
moment = {moment!r}
train(1)
while True:
    loss = model(torch.ones(2, 4)).sum()
    if moment == "after forward":
        {ending}
    loss.backward()
    if moment == "after backward":
        {ending}
    optimizer.step()
    {ending}
"""
    done = run(tmp_path, source, **ENABLED)
    assert done.returncode == code
    length = {"after forward": 4, "after backward": 8, "after the optimizer": 9}[moment]
    assert outlines(tmp_path) == [STEP_LINES, STEP_LINES[:length]]


def test_an_uncaught_exception_in_a_module_is_seen_in_the_last_step(tmp_path: Path) -> None:
    source = f"""{TRAIN}
train(1)
model(torch.ones(2, 5))
"""
    done = run(tmp_path, source, **ENABLED)
    assert done.returncode == 1
    assert "RuntimeError: mat1 and mat2 shapes cannot be multiplied" in done.stderr
    assert outlines(tmp_path) == [
        STEP_LINES,
        ["train.step", "  forward Net", "    forward fc"],
    ]
    assert [root.children[0].status for root in traces(tmp_path)] == ["UNSET", "ERROR"]
