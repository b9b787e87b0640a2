"""Accelerate and Lightning, which start their ranks in their own ways: two ranks each."""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import indent

import pytest

from tests.distributed.launch import PROGRAMS, run
from tests.distributed.test_parallelism import BACKWARD, FORWARD, in_ddp
from tests.distributed.traces import read
from tests.support.backend_programs import free_ports

pytestmark = pytest.mark.slow

# Neither names its runs.
RUN = {"OTEL_TORCH_MODULES_RUN_ID": "night"}


def test_accelerate(tmp_path: Path) -> None:
    options = (
        # Without it Accelerate starts one process where there is no GPU.
        "--multi_gpu",
        "--num_processes=2",
        "--num_machines=1",
        "--mixed_precision=no",
        "--dynamo_backend=no",
        f"--main_process_port={free_ports(1)[0]}",
    )
    launch = (sys.executable, "-m", "accelerate.commands.launch", *options)
    file = tmp_path / "traces.jsonl"
    run([*launch, str(PROGRAMS / "accelerated.py")], file, **RUN)
    tree = in_ddp(FORWARD, BACKWARD) + "optimizer.step SGD\n"
    # Its loader is one batch ahead: the first step waits for both.
    expected = ["dataloader.next\n" * 2 + tree, tree]
    traces = read(file)
    assert [trace.step for trace in traces] == [0, 1]
    for trace, below in zip(traces, expected, strict=True):
        assert trace.tops == trace.parentless
        assert sorted(rank.outline() for rank in trace.ranks) == [
            f"rank {number}\n{indent(below, '  ')}" for number in (0, 1)
        ]


def test_lightning(tmp_path: Path) -> None:
    file = tmp_path / "traces.jsonl"
    run([sys.executable, str(PROGRAMS / "lightning_ddp.py")], file, **RUN)
    # Its optimizer is given a closure that does forward and backward.
    forward = "forward Training\n" + indent(FORWARD.replace(" GPT", " gpt"), "  ")
    backward = "backward Training\n" + indent(BACKWARD.replace(" GPT", " gpt"), "  ")
    below = "dataloader.next\noptimizer.step SGD\n" + indent(in_ddp(forward, backward), "  ")
    traces = read(file)
    assert [trace.step for trace in traces] == [0, 1]
    for trace in traces:
        assert [span.name for span in trace.tops] == ["train.step"]
        assert [rank.outline() for rank in trace.ranks] == [
            f"rank {number}\n{indent(below, '  ')}" for number in (0, 1)
        ]
