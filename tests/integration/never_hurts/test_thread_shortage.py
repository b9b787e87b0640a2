"""No thread can be started when training begins: steps wait for one, and what is lost is counted once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.side_by_side import side_by_side
from tests.support.training_program import ENABLED, STEP, TRAIN, outlines, run

# There is no room for such stacks.
SHORTAGE = """
import threading
from otel_torch_modules import TorchModuleInstrumentor
before = threading.stack_size(1 << 47)
train(7)
"""
OVER = """
threading.stack_size(before)
TorchModuleInstrumentor().uninstrument()
"""
BEGINS = "No thread can be started: steps wait for one, as many as there is room for: can't start new thread"
PROGRAMS = {
    OVER: ([BEGINS, "Threads can be started: steps are sent from now on"], 7),
    "": ([BEGINS, "7 steps recorded, 0 sent: 7 lost by RuntimeError"], 0),
}


def _ends(folder: Path, program: str) -> tuple[list[str], list[list[str]]]:
    done = run(folder, TRAIN + SHORTAGE + program, OMP_NUM_THREADS="1", **ENABLED)
    assert done.returncode == 0
    return done.stderr.splitlines(), outlines(folder)


@pytest.mark.slow
def test_steps_wait_for_one_and_are_counted(tmp_path: Path) -> None:
    assert side_by_side(tmp_path, _ends, PROGRAMS) == {
        program: (said, sent * [STEP]) for program, (said, sent) in PROGRAMS.items()
    }
