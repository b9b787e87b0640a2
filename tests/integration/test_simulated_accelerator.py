"""The trees of backward and of steps, once more on an accelerator, where autograd runs in a thread of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.simdev.build import missing

_PARTS = ("tests/integration/backward", "tests/integration/steps/test_boundaries.py")

_NOT_THERE = (
    # The device that is the default in one thread is none in another.
    "backward/test_lifetimes.py::test_forwards_in_two_threads_and_one_backward",
    # The device has no fused cell.
    "backward/test_structure.py::test_a_recurrent_cell_has_a_span_for_each_step_in_time",
    # When the engine's thread lets go of a backward that failed, the program's may be at its next call already.
    "backward/test_functions.py::test_an_exception_in_backward_that_the_program_survives_within_a_step",
    "backward/test_functions.py::test_an_exception_in_backward_ends_what_is_open_and_the_next_step_is_whole",
    "backward/test_checkpoint.py::test_an_exception_in_recompute",
    "backward/test_times.py::test_an_exception_in_backward_ends_spans_when_it_is_raised",
    # A trace function sees one thread alone.
    "backward/test_handlers.py::test_each_backward_is_there_once",
    # A limit that `docs/limits.md` names: what a backward makes has numbers of the engine's thread.
    "backward/test_lifetimes.py::test_a_backward_inside_a_checkpointed_forward",
)


@pytest.mark.slow
def test_trees_are_those_of_the_cpu() -> None:
    reason = missing()
    if reason is not None:
        assert not os.environ.get("CI"), reason
        pytest.skip(reason)
    left_out = [f"--deselect=tests/integration/{test}" for test in _NOT_THERE]
    plugin = "tests.support.simdev.plugin"
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", plugin, *left_out, *_PARTS],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert finished.returncode == 0, finished.stdout[-4_000:]
    counted = re.search(r"(\d+) passed", finished.stdout)
    assert counted is not None
    assert int(counted[1]) > 100
