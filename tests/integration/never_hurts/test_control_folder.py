"""The folder by which a job is asked for steps: whatever is wrong with it, the job trains on, and it is said once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from otel_torch_modules._control import files
from otel_torch_modules._control.report import Report
from otel_torch_modules.cli.main import main

PROGRAM = """
import json, logging, resource, sys, tempfile, time
logging.basicConfig(stream=sys.stderr, format="LOG %(message)s")
import torch
from torch import nn
from torch.utils.data import DataLoader

class Batches(torch.utils.data.Dataset):
    def __init__(self):
        self.layer = nn.Linear(4, 4)
    def __len__(self):
        return 4
    def __getitem__(self, index):
        return self.layer(torch.full((4,), float(index))).detach()

torch.manual_seed(0)
seconds, workers, full = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
if full:  # no file grows, as on a disk that is full; Python itself needs none any more
    tempfile.gettempdir()  # which tries by a file; torch asks where it is
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
losses = []
end = time.monotonic() + seconds
batches = list(DataLoader(Batches(), batch_size=2, num_workers=workers))
while time.monotonic() < end or len(losses) < 40:
    loss = model(batches[len(losses) % 2]).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    losses.append(loss.item())
print(json.dumps(losses[:40]))
"""


def start(
    folder: Path | None, seconds: float, *, workers: int = 0, full: int = 0
) -> subprocess.Popen[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    if folder is not None:
        environ |= {
            "OTEL_TORCH_MODULES_ENABLED": "true",
            "OTEL_TORCH_MODULES_CONTROL": str(folder),
            "OTEL_TORCH_MODULES_SCHEDULE": "skip_first=1000000000",
            "OTEL_TRACES_EXPORTER": "none",
        }
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(seconds), str(workers), str(full)],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_job_trains_on_where_nothing_can_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "control"
    alone, traced = start(None, 0.0), start(folder, 3.0, full=1)
    untraced, _ = alone.communicate(timeout=120)
    out, complained = traced.communicate(timeout=120)
    assert traced.returncode == 0, complained
    assert json.loads(out) == json.loads(untraced)
    said = [line for line in complained.splitlines() if line.startswith("LOG ")]
    where = f"OTEL_TORCH_MODULES_CONTROL: {folder}/rank-0.json"
    assert said == [f"LOG {where}: File too large; it is tried again"]
    assert list(folder.iterdir()) == []


def test_a_process_that_is_killed_leaves_its_file_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    process = start(tmp_path, 600.0, workers=1)  # a process too, which calls modules, and no rank
    deadline = time.monotonic() + 60
    while not (tmp_path / "rank-0.json").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
    process.kill()
    process.communicate(timeout=60)
    left = Report.of(files.read(tmp_path / "rank-0.json"))
    assert left.pid == process.pid
    long_ago = time.time() - 30
    os.utime(tmp_path / "rank-0.json", (long_ago, long_ago))
    assert main(["top", str(tmp_path), "--once"]) == 0
    out = capsys.readouterr().out
    assert "No rank gives a sign" in out
    assert "no sign for 3" in out
