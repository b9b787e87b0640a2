"""Threads that are greenlets, as gevent and eventlet make them: such a program is left alone."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.side_by_side import side_by_side
from tests.support.training_program import ENABLED, TRAIN, outlines, run

PATCHES = {
    "gevent": "from gevent import monkey; monkey.patch_all()\n",
    "eventlet": "import eventlet; eventlet.monkey_patch()\n",
}
WITHOUT_THREADS = "from gevent import monkey; monkey.patch_all(thread=False)\n"
QUIET = "import warnings; warnings.simplefilter('ignore')\n"  # of what the libraries deprecate

ENDS = """
import os, signal, sys, time
train(7)
print(*signal.pthread_sigmask(signal.SIG_BLOCK, []))

def stop(*_):
    print("stopped", flush=True)
    sys.exit(3)

signal.signal(signal.SIGTERM, stop)
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(1000)
"""


def _ends(folder: Path, program: str) -> tuple[int, str, list[str]]:
    done = run(folder, QUIET + program + ENDS, OMP_NUM_THREADS="1", **ENABLED)
    said = [line for line in done.stderr.splitlines() if "RLock" not in line]  # eventlet's own
    return done.returncode, done.stdout, said


@pytest.mark.slow
@pytest.mark.parametrize("library", PATCHES)
def test_they_are_not_traced_and_their_signals_arrive(library: str, tmp_path: Path) -> None:
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    patch = PATCHES[library]
    before, after = patch + TRAIN, TRAIN + patch
    why = f"{library} has made threads greenlets, and tracing needs a thread of its own"
    assert side_by_side(tmp_path, _ends, (before, after)) == {
        before: (3, "\nstopped\n", [f"Modules are not traced: {why}"]),
        after: (3, "\nstopped\n", [f"Tracing stops: {why}; training goes on"]),
    }


@pytest.mark.slow
def test_threads_that_are_left_as_they_are_do(tmp_path: Path) -> None:
    pytest.importorskip("gevent")
    done = run(tmp_path, QUIET + TRAIN + WITHOUT_THREADS + ENDS, OMP_NUM_THREADS="1", **ENABLED)
    assert (done.returncode, done.stdout, done.stderr) == (3, "\nstopped\n", "")
    assert len(outlines(tmp_path)) == 7
