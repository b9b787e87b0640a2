"""Training programs run as processes of their own, and the traces that they left in a folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support.jaeger_query import StoredSpan, trees

BIN = Path(sys.executable).parent
TIME_LIMIT = 120  # seconds; two cores may be busy with other tests

TRAIN = """
import torch
from torch import nn

torch.set_num_threads(1)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.act = nn.ReLU()

    def forward(self, x):
        return self.act(self.fc(x))

model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

def train(steps=2):
    for _ in range(steps):
        model(torch.ones(2, 4)).sum().backward()
        optimizer.step()
"""
"""Defines `train`, which makes two steps unless told otherwise."""

STEP = [
    "train.step",
    "  forward Net",
    "    forward fc",
    "    forward act",
    "  backward",
    "    backward Net",
    "      backward act",
    "      backward fc",
    "  optimizer.step SGD",
]
"""The whole tree of one such step."""

ENABLED = {"OTEL_TORCH_MODULES_ENABLED": "true"}


def environment(folder: Path, **variables: str) -> dict[str, str]:
    """Return this process's variables, none of OpenTelemetry's but `variables`; spans go to files in `folder`.

    Causes that come and go with what the machine does have no spans, unless `variables` choose them.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    files = {
        "OTEL_TRACES_EXPORTER": "otlp_file",
        "OTEL_TORCH_MODULES_FILE": str(folder / "traces-{pid}.jsonl"),
    }
    return {**kept, **files, "OTEL_TORCH_MODULES_CAUSES": "compile,checkpoint", **variables}


def write(folder: Path, source: str, script: str = "train.py") -> Path:
    """Write a program into `folder` and return its path."""
    path = folder / script
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    return path


def run(
    folder: Path, source: str, *, command: Sequence[str] = (), **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run `source` as `train.py` in `folder`, by `command` where there is one, else by this Python."""
    script = write(folder, source)
    return subprocess.run(
        list(command) or [sys.executable, str(script)],
        env=environment(folder, **variables),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
        check=False,
    )


def doctor(folder: Path, file: Path) -> subprocess.CompletedProcess[str]:
    """Examine a file of traces."""
    return subprocess.run(
        [BIN / "otel-torch-modules", "doctor", file],
        env=environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )


def said(done: subprocess.CompletedProcess[str]) -> str:
    """Return what a program printed; it must have ended well and complained of nothing."""
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def traces(folder: Path) -> list[StoredSpan]:
    """Return the trees of all traces in `folder`, in order of their start.

    The long stretches between phases are left out: whether there are any depends on what else the machine does.
    """
    lines = [line for path in folder.glob("*.jsonl") for line in path.read_text().splitlines()]
    return without_stretches(trees([json.loads(line) for line in lines]))


def without_stretches(roots: list[StoredSpan]) -> list[StoredSpan]:
    """Return `roots` without the spans of what passes between phases."""
    for root in roots:
        for span in root.walk():
            span.children[:] = [child for child in span.children if child.name != "between"]
    return roots


def outlines(folder: Path) -> list[list[str]]:
    """Return the names of all spans in `folder`, tree by tree."""
    return [root.outline() for root in traces(folder)]
