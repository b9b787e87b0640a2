"""Commands say whose time they tell: the program's, or its device's."""

from __future__ import annotations

import json
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from otel_torch_modules._diagnosis.device_times import ToldBy
from otel_torch_modules.cli.main import main

Write = Callable[..., Path]
Said = pytest.CaptureFixture[str]
STEPS = 6
LEVELS = ["nothing", "phases", "modules"]


def told(span: Any, *, modules: bool, above: Any = None, phase: Any = None) -> Any:
    """Return a tree whose device takes half as long as the program for each forward, else twice as long (ms)."""
    if phase is None and above is not None:
        phase = span
    children = tuple(
        told(child, modules=modules, above=span, phase=phase) for child in span.children
    )
    said = dict(span.attributes or {})
    is_told = span is phase or modules
    if above is None or (is_told and phase.phase != "data"):
        times = 0.5 if phase is not None and phase.phase == "forward" else 2
        took = (span.end - span.start) * times
        lag = 400 + (times - 1) * (span.start - (phase or span).start)
        said |= {"torch.device.duration": took / 1e3, "torch.device.lag": lag / 1e3}
    if modules and span.phase in ("forward", "backward", "recompute") and " " in span.name:
        label = span.name.partition(" ")[2]
        said["torch.module.fqn"] = label if label == "GPT" else f"GPT.{label}"
    return span._replace(children=children, attributes=said)


@pytest.fixture
def traces(step: Callable[..., Any], write_traces: Write) -> Callable[[str], str]:
    """Return a file of steps whose device says nothing, or what it took for phases, or for modules too."""

    def make(level: str) -> str:
        steps = [step(index, 100.0 * index) for index in range(STEPS)]
        if level != "nothing":
            steps = [told(one, modules=level == "modules") for one in steps]
        return str(write_traces(*steps))

    return make


SAID = {"nothing": ToldBy.PROGRAM, "phases": ToldBy.DEVICE, "modules": ToldBy.MODULES}


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    "arguments",
    [["view"], ["why"], ["compare", "--split", "3"], ["report", "-o", "-"]],
    ids=" ".join,
)
def test_it_is_said(
    arguments: list[str], level: str, traces: Callable[[str], str], capsys: Said
) -> None:
    assert main([*arguments, traces(level)]) == 0
    out = words(unescape(capsys.readouterr().out))
    said = [by for by in ToldBy if by.sentence and by.sentence in out]
    assert said == [by for by in [SAID[level]] if by.sentence]


@pytest.mark.parametrize("level", LEVELS)
def test_it_is_in_json(level: str, traces: Callable[[str], str], capsys: Said) -> None:
    assert main(["why", "--json", traces(level)]) == 0
    assert json.loads(capsys.readouterr().out)["told_by"] == SAID[level].name.lower()


def rows(out: str) -> dict[str, list[str]]:
    """Return the cells of a folded tree by the names of its rows."""
    found = {}
    for line in out.splitlines():
        cells = [cell for cell in line.split() if cell not in ("├─", "└─", "│")]
        numbers = [cell for cell in cells if cell.replace(".", "").isdigit() and "." in cell]
        found[" ".join(cells[: cells.index(numbers[0])]) if numbers else line.strip()] = numbers
    return found


@pytest.mark.parametrize(
    ("level", "forward", "backward", "head"),
    [
        ("nothing", ["20.00", "4.00", "25.3"], ["50.00", "2.00", "63.3"], "total ms self ms %"),
        (
            "phases",
            ["20.00", "4.00", "8.1", "10.00"],
            ["50.00", "2.00", "80.6", "100.00"],
            "total ms self ms % device ms",
        ),
        ("modules", ["10.00", "2.00", "8.1"], ["100.00", "4.00", "80.6"], "total ms self ms %"),
    ],
)
def test_the_usual_step_is_told_by_it(
    level: str,
    forward: list[str],
    backward: list[str],
    head: str,
    traces: Callable[[str], str],
    capsys: Said,
) -> None:
    assert main(["view", traces(level)]) == 0
    out = capsys.readouterr().out
    assert head in words(out)
    found = rows(out)
    (of_forward,) = [cells for name, cells in found.items() if name.startswith("forward GPT")]
    (of_backward,) = [
        cells
        for name, cells in found.items()
        if name == "backward" or name.startswith("backward …")
    ]
    assert (of_forward[:4], of_backward[:4]) == (forward, backward)


@pytest.mark.parametrize("level", LEVELS)
def test_shares_of_steps_are_told_by_it(
    level: str, traces: Callable[[str], str], capsys: Said
) -> None:
    assert main(["view", "--list", traces(level)]) == 0
    out = capsys.readouterr().out
    median = next(line for line in out.splitlines() if "median" in line).split()
    names = next(line for line in out.splitlines() if "forward" in line).split()
    forward, optimizer = (
        float(median[names.index(phase)].rstrip("%")) for phase in ("forward", "optimizer")
    )
    assert ("Shares are those of the device's time" in out) is (level != "nothing")
    # 20 ms and 4 of the program, half and twice as much of the device, whose step lasts longer.
    whole, of_forward, of_optimizer = (79, 20, 4) if level == "nothing" else (124, 10, 8)
    assert forward == pytest.approx(100 * of_forward / whole, abs=0.1)
    assert optimizer == pytest.approx(100 * of_optimizer / whole, abs=0.1)
