"""What lies between the phases of a step has a span where it is long, and a step without a loader holds its data."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from otel_torch_modules import step as manual_step
from otel_torch_modules._assembly.reading import between
from otel_torch_modules._recording.loop import pauses
from otel_torch_modules._recording.wall_clock import clock_offset
from otel_torch_modules.testing import capture_spans
from tests.support.passing_time import Clock
from tests.support.small_training import BACKWARD, FORWARD, Net, batch, optimizer, outline, step
from tests.support.training_program import ENABLED, run, said

BETWEEN = "between\n"
SHORTEST, LONGEST = between.SHORTEST, pauses.PAUSE  # before any test has them otherwise
LONG = 60.0  # ms: the stretches under test
PAUSE = 700.0  # ms
STEPS = 12  # the last ones are laid out like those before them


@pytest.fixture
def clock(no_pauses_of_the_machines: None, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Let no time pass but what a test lets pass, and call that long which is."""
    monkeypatch.setattr(between, "SHORTEST", SHORTEST)
    monkeypatch.setattr(pauses, "PAUSE", LONGEST)
    return Clock(monkeypatch)


def test_the_data_of_a_loop_without_a_loader_and_a_loss_that_is_looked_at(clock: Clock) -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans() as captured:
        for _ in range(STEPS):
            clock.sleep(LONG)  # gets a batch
            loss = model(batch()).sum()
            clock.sleep(LONG / 2)
            loss.backward()
            sgd.step()
    without = step(FORWARD, BETWEEN, BACKWARD, optimizer())
    whole = step(BETWEEN, FORWARD, BETWEEN, BACKWARD, optimizer())
    assert outline(captured) == without + (STEPS - 1) * whole
    trees = captured.trees
    assert all(before.end == after.start for before, after in pairwise(trees))
    lengths = [(span.end - span.start) / 1e6 for tree in trees for span in tree.find("between")]
    assert lengths == [LONG / 2] + (STEPS - 1) * [LONG, LONG / 2]
    spans = [span for tree in trees for span in tree.find("between")]
    assert {tuple(span.attributes.items()) for span in spans} == {(("torch.phase", "between"),)}
    assert {span.span.kind.name for span in spans} == {"INTERNAL"}


def test_a_stretch_that_comes_and_goes(clock: Clock) -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans() as captured:
        for number in range(STEPS):
            with manual_step(number):
                loss = model(batch()).sum()
                if number % 3 == 2:
                    clock.sleep(LONG)
                loss.backward()
                sgd.step()
    short = step(FORWARD, BACKWARD, optimizer())
    long = step(FORWARD, BETWEEN, BACKWARD, optimizer())
    assert outline(captured) == STEPS // 3 * (2 * short + long)


def test_an_evaluation_and_a_pause_are_in_no_step(clock: Clock) -> None:
    """What follows an evaluation is in the next step, and so is what comes straight after one."""
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    begun = []
    with capture_spans() as captured:
        for evaluates, before in ((False, LONG), (True, LONG), (False, PAUSE), (False, LONG)):
            last = clock.time
            clock.sleep(before)
            begun.append(last if before == LONG else clock.time)
            if evaluates:
                with torch.no_grad():
                    model(batch())
                begun[-1] = clock.time
                clock.sleep(LONG)
            model(batch()).sum().backward()
            sgd.step()
    begun[0] += int(LONG * 1e6)  # no step was before it
    steps = [tree for tree in captured.trees if tree.name == "train.step"]
    assert [tree.start - clock_offset() for tree in steps] == begun


def test_in_the_bytes_that_are_sent(tmp_path: Path) -> None:
    source = f"""
import time, torch
from torch import nn
model = nn.Linear(4, 4)
sgd = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range({STEPS}):
    time.sleep({LONG / 1000})
    model(torch.ones(2, 4)).sum().backward()
    sgd.step()
"""
    said(run(tmp_path, source, **ENABLED))
    (file,) = tmp_path.glob("*.jsonl")
    text = file.read_text()
    assert text.count('"name":"between"') + text.count('"name": "between"') >= STEPS - 1
