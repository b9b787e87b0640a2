"""Programs started on several ranks, each in a process of its own, as their users start them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

PROGRAMS = Path(__file__).parent / "programs"
_SITE = Path(__file__).parents[1] / "frameworks" / "site"  # Lightning imports torchvision
STANDALONE = ("--standalone",)
_TIMEOUT_S = 240


def command(
    program: str, *arguments: str, ranks: int = 4, options: Sequence[str] = STANDALONE
) -> list[str]:
    """Return the command line that starts `program` with torchrun."""
    torchrun = (sys.executable, "-m", "torch.distributed.run", *options)
    return [*torchrun, f"--nproc-per-node={ranks}", str(PROGRAMS / program), *arguments]


def environment(file: Path | None, **variables: str) -> dict[str, str]:
    """Return the environment of a process that is traced into `file`; where it is None, of one that is not."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OTEL_", "TORCHELASTIC_", "SLURM_", "TRACEPARENT"))
    }
    if file is not None:
        kept["OTEL_TORCH_MODULES_ENABLED"] = "true"
        kept["OTEL_TRACES_EXPORTER"] = "otlp_file"
        kept["OTEL_TORCH_MODULES_FILE"] = str(file)
        # Others come and go with what the machine does.
        kept["OTEL_TORCH_MODULES_CAUSES"] = "compile,checkpoint"
    return {**kept, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(_SITE), **variables}


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for the end of `process` and return what it said."""
    said, complained = process.communicate(timeout=_TIMEOUT_S)
    assert process.returncode == 0, complained[-3_000:]
    return said


def start(line: Sequence[str], file: Path | None, **variables: str) -> subprocess.Popen[str]:
    """Start a command."""
    return subprocess.Popen(
        line,
        env=environment(file, **variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(line: Sequence[str], file: Path | None, **variables: str) -> str:
    """Run a command to its end and return what it said."""
    return finish(start(line, file, **variables))


def wait_until(condition: Callable[[], bool], job: subprocess.Popen[Any]) -> None:
    """Wait for what a job that runs will make true."""
    deadline = time.monotonic() + 120
    while not condition():
        assert job.poll() is None, "the job has ended"
        assert time.monotonic() < deadline
        time.sleep(0.02)
