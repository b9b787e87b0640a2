"""How long the commands take for a million spans, and how much memory: a run of 2 000 steps of 501 spans in a file.

    python -m benchmarks.answers [--steps 2000] [--rounds 3] [--file FILE]

The toy model is trained, traced by the variables alone, into the file, unless it is there already. Then each command
runs in a process of its own, imports included; the seconds are those on the clock and of the processor.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

_TRAIN = """
import sys, torch
from benchmarks.toy import Toy
torch.set_num_threads(1)
model, batch = Toy(blocks=41), torch.randn(2, 4, 8)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
for _ in range(int(sys.argv[1])):
    model(batch).sum().backward()
    optimizer.step()
"""
COMMANDS = {
    "why": ["why", "{file}"],
    "view --slowest": ["view", "--slowest", "{file}"],
    "view": ["view", "{file}"],
    "compare --split": ["compare", "{file}", "--split", "{middle}"],
    "report": ["report", "{file}", "-o", os.devnull],
}


class Took(NamedTuple):
    """What a process took."""

    seconds: float
    processor: float  # seconds
    megabytes: float  # of memory, at most


def make(file: Path, steps: int) -> None:
    """Train so many steps, traced to `file`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    tracing = {
        "OTEL_TORCH_MODULES_ENABLED": "true",
        "OTEL_TRACES_EXPORTER": "otlp_file",
        "OTEL_TORCH_MODULES_FILE": str(file),
    }
    subprocess.run([sys.executable, "-c", _TRAIN, str(steps)], env={**kept, **tracing}, check=True)


def measure(command: list[str]) -> Took:
    """Run the command with these arguments to its end."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "otel_torch_modules", *command], stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Took(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def main() -> None:
    """Print a line for each command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--steps", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--file", type=Path)
    parser.add_argument("--only", choices=COMMANDS, action="append", help="of the commands")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = asked.file or Path(folder, "run.jsonl")
        if not file.exists():
            make(file, asked.steps)
        print(f"{file.stat().st_size / 1e6:.0f} MB; the median of {asked.rounds}, least and most")
        given = {"file": str(file), "middle": str(asked.steps // 2)}
        for name in asked.only or COMMANDS:
            command = [part.format(**given) for part in COMMANDS[name]]
            took = [measure(command) for _ in range(asked.rounds)]
            seconds, processor, megabytes = zip(*took, strict=True)
            print(
                f"{name:16} {_spread(seconds)} s, {_spread(processor)} s of the processor, "
                f"{max(megabytes):.0f} MB"
            )


def _spread(values: tuple[float, ...]) -> str:
    return f"{median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


if __name__ == "__main__":
    main()
