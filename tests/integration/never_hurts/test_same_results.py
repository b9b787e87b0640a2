"""Training gives bit for bit the same with tracing on, and draws no random numbers of the program."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import torch

from otel_torch_modules.testing import capture_spans
from tests.support.small_training import Net, batch
from tests.support.training_program import ENABLED, TIME_LIMIT, environment, outlines

EXAMPLE = Path(__file__).parents[3] / "otel_torch_modules" / "examples" / "train_gpt.py"


def losses(folder: Path, **variables: str) -> str:
    """Return what the example wrote as losses of 20 steps."""
    file = folder / "losses"
    arguments = ["--steps", "20", "--width", "32", "--batch-size", "4", "--losses", str(file)]
    subprocess.run(
        [sys.executable, str(EXAMPLE), *arguments],
        env={**environment(folder, **variables), "OMP_NUM_THREADS": "1"},
        cwd=folder,
        capture_output=True,
        timeout=TIME_LIMIT,
        check=True,
    )
    return file.read_text()


def test_the_losses_of_the_example_are_the_same(tmp_path: Path) -> None:
    traced, untraced = tmp_path / "traced", tmp_path / "untraced"
    traced.mkdir()
    untraced.mkdir()
    expected = losses(untraced)
    assert len(expected.splitlines()) == 20
    assert len(set(expected.splitlines())) == 20
    assert losses(traced, **ENABLED) == expected
    assert outlines(untraced) == []
    assert [lines[0] for lines in outlines(traced)] == 20 * ["train.step"]


def test_gradients_are_the_same() -> None:
    def gradients() -> list[torch.Tensor]:
        torch.manual_seed(3)
        model = torch.nn.Sequential(Net(), torch.nn.Dropout(0.5), Net())
        model(batch()).square().sum().backward()
        return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]

    expected = gradients()
    with capture_spans():
        traced = gradients()
    assert len(expected) == 4
    assert all(torch.equal(a, b) for a, b in zip(expected, traced, strict=True))


def test_random_numbers_are_left_alone() -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    before = random.getstate(), torch.get_rng_state()
    with capture_spans():
        for _ in range(3):
            model(batch()).sum().backward()
            sgd.step()
        with torch.no_grad():
            model(batch())
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
