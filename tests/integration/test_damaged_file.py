"""A real job whose disk is full in the middle of a line: what it leaves is read, and the loss is said."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from otel_torch_modules import semconv
from otel_torch_modules._reading.traces import Traces
from otel_torch_modules.cli.main import main

TRAIN = """
import torch
model = torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(8)))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _ in range(40):
    model(torch.randn(2, 4)).sum().backward()
    optimizer.step()
"""
SPANS = (
    1 + 9 + 1 + 9 + 1
)  # of a step: itself, the forward, the backward pass and its modules, the optimizer


def train(file: Path, limit: int = resource.RLIM_INFINITY) -> None:
    """Train, where no file may have more bytes than `limit`, as if the disk were full then."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    subprocess.run(
        [sys.executable, "-c", TRAIN],
        env={
            **kept,
            "OTEL_TORCH_MODULES_ENABLED": "true",
            "OTEL_TRACES_EXPORTER": "otlp_file",
            "OTEL_TORCH_MODULES_CAUSES": "none",  # they come and go with what the machine does
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "100",  # spans: five steps or six have a part in a line
            "OTEL_TORCH_MODULES_FILE": str(file),
        },
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        check=True,
    )


def assert_what_is_not_marked_is_whole(file: Traces) -> None:
    # The stretches between phases are the machine's doing.
    counts = {
        sum(span.phase != semconv.PHASE_BETWEEN for span in step.walk())
        for step in file.whole_steps
    }
    assert counts <= {SPANS}


def test_a_full_disk_is_seen_in_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limit = 150_000
    file = tmp_path / "traces.jsonl"
    train(file, limit)
    assert file.stat().st_size == limit
    assert not file.read_text().endswith("\n")
    cut_off = f"{file}: the last line is cut off and was left out"

    assert main(["doctor", str(file)]) == 1
    assert f"✗ {cut_off}" in capsys.readouterr().out.splitlines()
    assert main(["view", "--list", str(file)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"{cut_off}."
    assert_what_is_not_marked_is_whole(Traces.read(file))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    file = tmp_path_factory.mktemp("whole") / "traces.jsonl"
    train(file)
    read = Traces.read(file)
    assert ([step.step for step in read.whole_steps], list(read.losses())) == ([*range(40)], [])
    assert_what_is_not_marked_is_whole(read)
    return file.read_bytes()


def test_wherever_a_file_ends_between_two_lines_no_part_of_a_step_passes_for_the_whole(
    whole: bytes, tmp_path: Path
) -> None:
    """As where a process is killed between two writes."""
    file = tmp_path / "killed.jsonl"
    cut = 0
    for at, byte in enumerate(whole):
        if byte == ord("\n"):
            file.write_bytes(whole[: at + 1])
            read = Traces.read(file)
            assert_what_is_not_marked_is_whole(read)
            cut += any("no root" in loss for loss in read.losses())
    assert cut


def test_wherever_a_line_is_torn_no_part_of_a_step_passes_for_the_whole(
    whole: bytes, tmp_path: Path
) -> None:
    """A file that ends there, and one that goes on with the next line, or with a later one."""
    starts = [at + 1 for at, byte in enumerate(whole) if byte == ord("\n")]
    file = tmp_path / "torn.jsonl"
    tears = [start + within for start in starts[1:-2] for within in (5, 400, 1_100, 30_000, 55_000)]
    for at in tears:
        later = [start for start in starts if start > at]
        for rest in (b"", whole[later[0] :], whole[later[len(later) // 2] :]):
            file.write_bytes(whole[:at] + rest)
            read = Traces.read(file)
            assert_what_is_not_marked_is_whole(read)
            assert read.damages[0].requests
            assert any("cut off" in loss or "line" in loss for loss in read.losses())
