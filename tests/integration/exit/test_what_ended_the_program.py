"""An exception that no module raised, and that ends the program, has ended the step that was open."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.training_program import (
    ENABLED,
    TIME_LIMIT,
    TRAIN,
    environment,
    run,
    traces,
    write,
)

STARTED = f"""{TRAIN}
import multiprocessing, os, sys, time
from pathlib import Path

def raises(*_):
    raise ValueError("no more\\nof this")

def loss():
    return model(torch.ones(2, 4)).sum()

def hooked():
    found = loss()
    found.register_hook(raises)
    return found
"""

ENDS = {
    "after the forward": "loss()\nraises()",
    "in a hook of the loss": "hooked().backward()",
    "by hand": "with otel_torch_modules.step():\n    loss().backward()\n    raises()",
}


def failed(folder: Path) -> list[tuple[str, str, list[dict[str, str]]]]:
    """Return name, status and exceptions of each span with an error, without their stack traces."""
    return [
        (
            span.name,
            span.status_message,
            [_without_stack(event.attributes) for event in span.events],
        )
        for root in traces(folder)
        for span in root.walk()
        if span.status == "ERROR"
    ]


def _without_stack(said: dict[str, Any]) -> dict[str, str]:
    return {name: value for name, value in said.items() if name != "exception.stacktrace"}


EXCEPTION = {"exception.type": "ValueError", "exception.message": "no more\nof this"}
RAISED = [("train.step", "ValueError: no more\nof this", [EXCEPTION])]


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_what_left_the_main_module_is_said_of_the_step_that_was_open(
    tmp_path: Path, end: str
) -> None:
    done = run(tmp_path, f"import otel_torch_modules\n{STARTED}\ntrain(2)\n{end}", **ENABLED)
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1
    assert done.stderr.endswith("ValueError: no more\nof this\n")
    assert "otel_torch_modules/" not in done.stderr.replace("with otel_torch_modules.", "")
    assert failed(tmp_path) == RAISED
    assert len(traces(tmp_path)) == 3


NOT_OPEN = {
    "after a step": "train(3)\nraises()",
    "caught": "train(3)\nloss()\ntry: raises()\nexcept ValueError: pass",
}


@pytest.mark.parametrize("end", NOT_OPEN.values(), ids=NOT_OPEN)
def test_no_step_is_to_blame_where_none_was_open_or_nothing_has_left_the_program(
    tmp_path: Path, end: str
) -> None:
    run(tmp_path, f"{STARTED}\n{end}", **ENABLED)
    assert failed(tmp_path) == []


def test_what_a_prompt_has_shown_is_nobodys(tmp_path: Path) -> None:
    lines = f"{STARTED}\ntrain(2)\nloss()\n"
    done = subprocess.run(
        [sys.executable, "-i", write(tmp_path, lines)],
        env=environment(tmp_path, **ENABLED),
        input="raises()\nloss()\n",
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
        check=False,
    )
    assert "ValueError: no more" in done.stderr
    assert len(traces(tmp_path)) == 3
    assert failed(tmp_path) == []


CHILDREN = {
    "forked": "multiprocessing.get_context('fork').Process(target=child).start()",
    "of torch": "torch.multiprocessing.start_processes(child, nprocs=1, start_method='spawn', join=False).join()",
}


@pytest.mark.parametrize("start", CHILDREN.values(), ids=CHILDREN)
def test_what_ends_a_child_is_said_of_its_step(tmp_path: Path, start: str) -> None:
    program = f"""{STARTED}
def child(*_):
    train(2)
    loss()
    while not any(Path().glob("*.jsonl")):  # as soon as there is something the way out is known
        time.sleep(0.01)
    raises()

if __name__ == "__main__":
    {start}
"""
    run(tmp_path, program, **ENABLED)
    assert failed(tmp_path) == RAISED
