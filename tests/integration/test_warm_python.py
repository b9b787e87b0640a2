"""A program that is forked from a warm Python finds what it finds in a Python of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.training_program import (
    ENABLED,
    STEP,
    TIME_LIMIT,
    TRAIN,
    environment,
    outlines,
    write,
)
from tests.support.warm_python import warm_python

PROGRAM = f"""{TRAIN}
names = sorted(vars())
train(3)
import os, signal, sys
print(__name__, __file__, __spec__, sys.argv, sys.path[0], os.getcwd(), names)
print(sorted(os.environ.items()))
print([signal.getsignal(number) for number in signal.valid_signals()])
print(sys.stdin.fileno(), sys.stdout.isatty(), sorted(os.listdir("/proc/self/fd"))[:3])
sys.exit("and says why")
"""


def test_it_finds_the_same(tmp_path: Path) -> None:
    script = write(tmp_path, PROGRAM)
    variables = environment(tmp_path, **ENABLED)
    cold = subprocess.run(
        [sys.executable, str(script)],
        env=variables,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert warm_python().has(variables)
    warm = warm_python().run(script, variables, tmp_path, TIME_LIMIT)
    assert (warm.returncode, warm.stderr) == (1, "and says why\n")
    assert vars(warm) == vars(cold)
    assert outlines(tmp_path) == [STEP] * 6


def test_what_a_python_of_its_own_would_do_otherwise_is_left_to_one(tmp_path: Path) -> None:
    for name in ("PYTHONPATH", "OMP_NUM_THREADS", "LD_PRELOAD", "TORCH_LOGS"):
        assert not warm_python().has(environment(tmp_path, **{name: "something"}))
