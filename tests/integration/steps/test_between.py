"""What lies between the phases of a step has a span where it is long, and a step without a loader holds its data."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from otel_torch_modules import step as manual_step
from otel_torch_modules._assembly.reading import between
from otel_torch_modules.testing import capture_spans
from tests.support.small_training import BACKWARD, FORWARD, Net, batch, optimizer, outline, step
from tests.support.training_program import ENABLED, run, said

BETWEEN = "between\n"
LONG = 0.06  # seconds: the stretches under test; others are short
STEPS = 12  # the last ones are laid out like those before them


@pytest.fixture(autouse=True)
def only_long_ones(no_pauses_of_the_machines: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stretches that the machine makes are shorter."""
    monkeypatch.setattr(between, "SHORTEST", 50_000_000)


def test_the_data_of_a_loop_without_a_loader_and_a_loss_that_is_looked_at() -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans() as captured:
        for _ in range(STEPS):
            time.sleep(LONG)  # gets a batch
            loss = model(batch()).sum()
            time.sleep(LONG)
            loss.backward()
            sgd.step()
    without = step(FORWARD, BETWEEN, BACKWARD, optimizer())
    whole = step(BETWEEN, FORWARD, BETWEEN, BACKWARD, optimizer())
    assert outline(captured) == without + (STEPS - 1) * whole
    trees = captured.trees
    apart = [after.start - before.end for before, after in pairwise(trees)]
    assert max(map(abs, apart)) < 1_000_000  # each step has read the system's clock for itself
    spans = [span for tree in trees for span in tree.find("between")]
    assert {tuple(span.attributes.items()) for span in spans} == {(("torch.phase", "between"),)}
    assert {span.span.kind.name for span in spans} == {"INTERNAL"}


def test_a_stretch_that_comes_and_goes() -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans() as captured:
        for number in range(STEPS):
            with manual_step(number):
                loss = model(batch()).sum()
                if number % 3 == 2:
                    time.sleep(LONG)
                loss.backward()
                sgd.step()
    short = step(FORWARD, BACKWARD, optimizer())
    long = step(FORWARD, BETWEEN, BACKWARD, optimizer())
    assert outline(captured) == STEPS // 3 * (2 * short + long)


def test_an_evaluation_and_a_pause_are_in_no_step() -> None:
    """What follows an evaluation is in the next step."""
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    begun = []
    with capture_spans() as captured:
        for pause in (0.0, 0.0, 0.7, 0.0):
            time.sleep(pause)
            begun.append(time.time_ns())
            if len(begun) == 2:
                time.sleep(LONG)
                with torch.no_grad():
                    model(batch())
                begun[1] = time.time_ns() - 1_000_000  # two clocks
                time.sleep(LONG)
            model(batch()).sum().backward()
            sgd.step()
    steps = [tree for tree in captured.trees if tree.name == "train.step"]
    assert [tree.start >= start for tree, start in zip(steps, begun, strict=True)] == [
        True,
        True,
        True,
        False,
    ]


def test_in_the_bytes_that_are_sent(tmp_path: Path) -> None:
    source = f"""
import time, torch
from torch import nn
model = nn.Linear(4, 4)
sgd = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range({STEPS}):
    time.sleep({LONG})
    model(torch.ones(2, 4)).sum().backward()
    sgd.step()
"""
    said(run(tmp_path, source, **ENABLED))
    (file,) = tmp_path.glob("*.jsonl")
    text = file.read_text()
    assert text.count('"name":"between"') + text.count('"name": "between"') >= STEPS - 1
