"""Runs that are whole and yet odd: whatever is asked of them, there is an answer, and none that cannot be."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from otel_torch_modules.cli.main import main

Write = Callable[..., Path]
STEPS = 12
HOUR = 3_600_000.0  # ms

COMMANDS = {
    "why": ["why"],
    "why --json": ["why", "--json"],
    "why --step": ["why", "--step", "5"],
    "view": ["view"],
    "view --slowest": ["view", "--slowest"],
    "compare": ["compare", "--split", "6"],
    "compare --json": ["compare", "--split", "6", "--json"],
    "report": ["report", "-o", os.devnull],
    "speedscope": ["convert", "--to", "speedscope", "-o", os.devnull],
}


def moved(sample: Any, ms: float, times: float = 1.0) -> Any:
    return sample._replace(
        start=sample.start * times + ms,
        end=sample.end * times + ms,
        children=tuple(moved(child, ms, times) for child in sample.children),
    )


def without_length(step: Callable[..., Any]) -> list[Any]:
    return [moved(step(index), 100.0 * index, 0.0) for index in range(STEPS)]


def at_once(step: Callable[..., Any]) -> list[Any]:
    return [step(index) for index in range(STEPS)]


def set_back(step: Callable[..., Any]) -> list[Any]:
    return [step(index, 100.0 * index - (HOUR if index > 5 else 0)) for index in range(STEPS)]


@pytest.mark.parametrize("steps", [without_length, at_once, set_back])
@pytest.mark.parametrize("command", COMMANDS)
def test_times_that_no_run_has_are_answered(
    command: str,
    steps: Callable[[Callable[..., Any]], list[Any]],
    write_traces: Write,
    step: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = write_traces(*steps(step))
    assert main([*COMMANDS[command], str(file)]) == 0
    shown = capsys.readouterr().out
    assert not re.search(r"\b(nan|inf)\b", shown, re.IGNORECASE)
    assert all(float(share) <= 100.5 for share in re.findall(r"([\d.]+) %", shown)), shown
    if "--json" in command:
        json.loads(shown)


def of_ranks(step: Callable[..., Any], sample: Any, behind: Callable[[int], float]) -> list[Any]:
    """Return steps of four ranks, each by its own clock."""
    steps = []
    for index in range(STEPS):
        one = step(index, 100.0 * index)
        ranks = tuple(
            sample(
                f"rank {rank}",
                "rank",
                one.start + behind(rank),
                one.end + behind(rank),
                tuple(moved(child, behind(rank)) for child in one.children),
                {"torch.distributed.rank": rank},
            )
            for rank in range(4)
        )
        steps.append(one._replace(children=ranks))
    return steps


@pytest.mark.parametrize("clock", [HOUR, 1_000.0, 30.0, 3.0, -30.0, -HOUR])
def test_a_clock_that_goes_wrong_makes_no_straggler(
    clock: float, write_traces: Write, step: Any, sample: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_traces(*of_ranks(step, sample, lambda rank: clock if rank == 1 else 0.0))
    assert main(["why", "--json", str(file)]) == 0
    rules = [finding["rule"] for finding in json.loads(capsys.readouterr().out)["findings"]]
    assert "straggler" not in rules
    assert main(["stragglers", str(file)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    told = f"In 12 steps a rank is behind all the while, by {clock:.2f} ms at most"
    assert (told in shown) == (clock > 0)


@pytest.mark.parametrize(
    ("services", "said"),
    [
        (("train",), None),
        (("train", "train · backward"), None),
        (("train", "other"), "2 services, other, train"),
        (("d", "c", "b", "a"), "4 services, a, b, c …"),
    ],
)
def test_services_that_are_taken_together_are_named(
    services: tuple[str, ...],
    said: str | None,
    write_traces: Write,
    step: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = write_traces(*[step(index, 100.0 * index) for index in range(STEPS)], per_line=23)
    lines = file.read_text().splitlines()
    for at, line in enumerate(lines):
        service = services[at % len(services)]
        line = line.replace('"train"', json.dumps(service, ensure_ascii=False))
        lines[at] = line.replace("job-1", f"job-{service}")
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    assert main(["why", str(file)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert (f"holds steps of {said}: all are taken together." in shown) == (said is not None)
    assert ("taken together" in shown) == (said is not None)


def truncated(one: Any) -> Any:
    return one._replace(attributes={**one.attributes, "torch.step.truncated": True})


CUT = (
    "12 steps are truncated: they had more spans than OTEL_TORCH_MODULES_MAX_SPANS_PER_STEP allows"
)
NOT_WHOLE = [command for command in COMMANDS if command.startswith(("why", "compare", "report"))]


@pytest.mark.parametrize("of_rank", [False, True], ids=["one process", "one of four ranks"])
@pytest.mark.parametrize("command", NOT_WHOLE)
def test_of_steps_that_are_all_truncated_it_is_said_that_they_are(
    command: str,
    of_rank: bool,
    write_traces: Write,
    step: Any,
    sample: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    steps = of_ranks(step, sample, lambda rank: 0.0)
    if of_rank:
        cut = [
            one._replace(children=(*one.children[:3], truncated(one.children[3]))) for one in steps
        ]
    else:
        cut = [truncated(step(index, 100.0 * index)) for index in range(STEPS)]
    file = write_traces(*cut)
    assert main([*COMMANDS[command], str(file)]) == 2
    said = capsys.readouterr().err
    assert f"{file} has no whole step; {file}: {CUT}" in said
    assert main(["view", str(file)]) == 0
    assert capsys.readouterr().out.startswith(f"{file}: {CUT}")
    assert main(["doctor", str(file)]) == 1
    examined = capsys.readouterr().out
    assert "12 steps, 12 truncated, 0 dropped" in examined
    assert f"✗ {file}: 12 steps were truncated" in examined


@pytest.mark.parametrize("command", COMMANDS)
def test_of_a_step_that_is_truncated_it_is_said_beside_the_others(
    command: str, write_traces: Write, step: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = [step(index, 100.0 * index) for index in range(STEPS)]
    steps[7] = truncated(steps[7])
    file = write_traces(*steps)
    assert main([*COMMANDS[command], str(file)]) == 0
    said = "".join(capsys.readouterr())
    assert f"{file}: 1 step is truncated: it had more" in said
    assert main(["why", "--step", "7", str(file)]) == 2
    assert "there is no whole step 7 (it is truncated); there are 11, from 0 to 11\n" in (
        capsys.readouterr().err
    )
