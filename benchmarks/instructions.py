"""Instructions that a module call takes more, forward and backward: a witness that no busy machine can disturb.

    python -m benchmarks.instructions

Each contender runs in programs of its own under valgrind, once with few steps and once with more; the difference of
what cachegrind counts, over the steps between, is what a step takes. All threads count. Needs `valgrind`; takes a few
minutes.
"""

from __future__ import annotations

import argparse
import gc
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import torch

from benchmarks import contenders
from benchmarks.contenders import Contender
from benchmarks.machine import use_one_thread
from benchmarks.toy import Toy, calls, training_step

_CONTENDERS: dict[str, Contender] = {
    "nothing": contenders.nothing,
    "empty-hooks": contenders.empty_hooks,
    "left-out": contenders.leaving_out,
    "recording": contenders.recording,
    "mod-tracker": contenders.mod_tracker,
}
_FEW, _MANY = 5, 25  # steps
_COUNT = re.compile(r"I\s+refs:\s+([\d,]+)")


def run_steps(name: str, steps: int) -> None:
    """Be the program that is counted."""
    use_one_thread()
    train = training_step(Toy(), torch.randn(2, 4, 8))
    gc.disable()  # a full collection is worth fifty steps, and comes when it comes
    with _CONTENDERS[name]() as run:
        for _ in range(steps):
            run(train)


def count(name: str, steps: int) -> int:
    """Return the instructions of a program that runs so many steps."""
    command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    command += [sys.executable, "-m", __spec__.name, "--run", name, "--steps", str(steps)]
    # Hashes, and with them the order of sets and what dictionaries cost, are the same in all.
    environment = os.environ | {"PYTHONHASHSEED": "0"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found = _COUNT.search(ended.stderr)
    if found is None:
        raise RuntimeError(ended.stderr)
    return int(found[1].replace(",", ""))


def of_a_step(name: str) -> float:
    """Return the instructions of one step."""
    return (count(name, _MANY) - count(name, _FEW)) / (_MANY - _FEW)


def main() -> None:
    """Print a line for each contender."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", choices=_CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        run_steps(arguments.run, arguments.steps)
        return
    if shutil.which("valgrind") is None:
        sys.exit("valgrind is missing")
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        found = dict(zip(_CONTENDERS, pool.map(of_a_step, _CONTENDERS), strict=True))
    base = found.pop("nothing")
    print(f"a step without tracing: {base / calls():.0f} instructions for each module call")
    for name, instructions in found.items():
        added = (instructions - base) / calls()
        print(f"{name:14}{added:>+10.0f} instructions a call, {instructions / base:.3f} x the step")


if __name__ == "__main__":
    main()
