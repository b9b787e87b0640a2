"""Programs of other people's frameworks, run as their users run them, untraced and traced into a file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.distributed.traces import Trace, read

_HERE = Path(__file__).parent
_TIMEOUT_S = 280

# No network, no threads beside torch's own, nothing written to the user's folders.
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
    "YOLO_OFFLINE": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_V2_ENABLED": "1",
    "PYTHONPATH": str(_HERE / "site"),
}


@dataclass(frozen=True)
class Job:
    """A program of `programs` and what its traces must say.

    Args:
        program: its file's name, without the ending.
        framework: what a reader knows it by.
        package: whose version counts.
        before: how many root forwards there are before the first step, when the process may still be one that
            serves: each is a trace of its own.
        evaluations: how many passes of evaluation it makes after that, as their numbers of forwards.
        ranks: processes that torchrun starts; 0 where the program starts its own, or is alone.
        warns: whether it has to be told that its steps are guessed.
    """

    program: str
    framework: str
    package: str
    before: int = 0
    evaluations: tuple[int, ...] = ()
    ranks: int = 0
    warns: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Args:
        steps: optimizer steps of its loop.
        parameters: a hash of them.
        step_ms: the median processor time from one step's end to the next one's, of all threads.
        said: what this project logged.
        traces: what was sent; empty where it was not traced.
    """

    steps: int
    parameters: str
    step_ms: float
    said: list[str]
    traces: list[Trace]


def run(job: Job, folder: Path, *, traced: bool) -> Outcome:
    """Run `job` and return its outcome.

    Args:
        job: the program.
        folder: for what it writes; empty.
        traced: whether the one variable is set.
    """
    work = folder / "work"
    work.mkdir(parents=True)
    said, told, traces = folder / "said", folder / "outcome.json", folder / "traces.jsonl"
    variables = {**_ENVIRONMENT, "FOLDER": str(work), "OUTCOME": str(told)}
    if traced:
        variables |= {
            "OTEL_TORCH_MODULES_ENABLED": "true",
            # Checkpoints are traces too, wherever a framework reads or writes one.
            "OTEL_TORCH_MODULES_CAUSES": "compile,gc,loop",
            "OTEL_TORCH_MODULES_FILE": str(traces),
            "OTEL_TORCH_MODULES_RUN_ID": "night",
            "OTEL_TRACES_EXPORTER": "otlp_file",
        }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    start = [sys.executable]
    if job.ranks:
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={job.ranks}"]
    with said.open("w") as stream:
        finished = subprocess.run(
            [*start, str(_HERE / "programs" / f"{job.program}.py")],
            env=kept | variables,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            timeout=_TIMEOUT_S,
            cwd=work,
        )
    lines = said.read_text(errors="replace").splitlines()
    assert finished.returncode == 0, "\n".join(lines[-30:])
    outcome = json.loads(told.read_text())
    return Outcome(
        **outcome,
        said=[line for line in lines if "otel_torch_modules" in line or "racing" in line],
        traces=read(traces) if traced else [],
    )
