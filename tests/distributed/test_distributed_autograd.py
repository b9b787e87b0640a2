"""The engine of distributed autograd does not say which node runs: its backward has no modules, all else is whole."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import indent

import pytest

from tests.distributed.launch import command, run
from tests.distributed.test_parallelism import BACKWARD, FORWARD
from tests.distributed.traces import read

pytestmark = pytest.mark.slow

PROGRAM = command("distributed_autograd.py", ranks=2)
STEPS = 2  # of each kind


def step(backward: str) -> str:
    below = FORWARD + "backward\n" + indent(backward, "  ") + "optimizer.step SGD\n"
    return "train.step\n  rank 0\n" + indent(below, "    ")


def test_a_plain_loop_after_distributed_autograd_is_traced_in_full(tmp_path: Path) -> None:
    # The interface over which the two talk: a container has others too.
    local = {"TP_SOCKET_IFNAME": "lo", "GLOO_SOCKET_IFNAME": "lo"}
    file = tmp_path / "traces.jsonl"
    losses = json.loads(run(PROGRAM, file, **local))
    assert losses == json.loads(run(PROGRAM, None, **local))
    tops = [span.outline() for trace in read(file) for span in trace.parentless]
    assert tops == STEPS * [step("")] + STEPS * [step(BACKWARD)]
