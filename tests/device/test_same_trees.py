"""The same program has the same traces on a real device, on the simulated one and on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.support.simdev.run import on_the_device

pytestmark = pytest.mark.device


def outlines_on(device: str) -> list[str]:
    """Return those of a process of its own: a process has one kind of accelerator."""
    if device == "sim":
        found: list[str] = on_the_device("-m", "tests.device.same_program", device)
        return found
    finished = subprocess.run(
        [sys.executable, "-m", "tests.device.same_program", device],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OTEL_TORCH_MODULES_ENABLED": "false"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def without_device(outline: str) -> str:
    """Return the lines that the CPU has too, without what is said of them."""
    kept: list[str] = []
    in_lane = False
    for line in outline.splitlines():
        in_lane = line == "  device" or (in_lane and line.startswith("    "))
        if not in_lane:
            kept.append(line.removesuffix(" (told)"))
    return "\n".join(kept)


def test_line_by_line(device: torch.device) -> None:
    simulated, here, cpu = map(outlines_on, ("sim", device.type, "cpu"))
    assert here == simulated
    assert [*map(without_device, here)] == cpu
    lanes = [outline.count("\n  device\n") for outline in here]
    assert lanes == [1, 1, 0]
    assert [outline.count(" (told)") > 20 for outline in here] == [True, True, False]
