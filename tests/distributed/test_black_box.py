"""All ranks of a job are killed in the middle of a step: where they stood is found, by hand and by the next start."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from otel_torch_modules.cli.main import main
from tests.distributed.launch import command, environment, wait_until
from tests.distributed.traces import Trace, read

pytestmark = pytest.mark.slow

STALLED = 3  # the step in which rank 2 of the program hangs
STEPS_THAT_HANG = (3, 5, 7, 9, 11, 13, 15, 17)
PLACES = {0: "backward", 1: "backward", 2: "forward GPT.h.1", 3: "backward"}


def start(folder: Path, traces: str) -> subprocess.Popen[bytes]:
    variables = environment(
        folder / traces,
        OTEL_TORCH_MODULES_BLACKBOX=str(folder / "box"),
        OTEL_TORCH_MODULES_STALL_TIMEOUT="0",
    )
    output = (folder / "out").open("ab")
    return subprocess.Popen(
        command("stalling.py", str(folder)), env=variables, stdout=output, stderr=output
    )


def left(folder: Path) -> dict[int, dict[str, Any]]:
    files = sorted((folder / "box").glob("rank-*.json"))
    return {int(path.stem.removeprefix("rank-")): json.loads(path.read_text()) for path in files}


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a job whose ranks were killed while one hung."""
    folder = tmp_path_factory.mktemp("killed")
    process = start(folder, "killed.jsonl")
    try:
        wait_until(
            lambda: (
                {rank: one["place"] for rank, one in left(folder).items() if one["step"] == STALLED}
                == PLACES
            ),
            process,
        )
        for one in left(folder).values():
            os.kill(one["pid"], signal.SIGKILL)
        assert process.wait(120) != 0
    finally:
        process.kill()
    return folder


def test_where_ranks_stood_is_read_from_what_they_left(
    killed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = left(killed)
    trace_id = found[0]["shared"][0]
    assert main(["stalls", str(killed / "box")]) == 0
    assert capsys.readouterr().out == (
        f"At step 3, killed, trace {trace_id}\n"
        "  ranks 0, 1, 3: backward\n"
        "  rank 2: forward GPT.h.1; DistributedDataParallel → GPT → GPT.h.1\n"
        "3 ranks were killed in backward; rank 2 was killed in forward GPT.h.1.\n"
        "\n"
    )
    assert all((killed / "box" / f"rank-{rank}.json").stat().st_mode & 0o077 == 0 for rank in found)
    assert all(len(json.dumps(one)) < 5_000 for one in found.values())


def test_the_next_start_sends_it_and_leaves_nothing_behind(killed: Path) -> None:
    found = left(killed)
    for step in STEPS_THAT_HANG:
        (killed / f"{step}.go").touch()
    process = start(killed, "next.jsonl")  # a line of the other may be cut off
    assert process.wait(120) == 0, (killed / "out").read_text()[-3000:]
    assert list((killed / "box").iterdir()) == []
    stalls = [trace for trace in read(killed / "next.jsonl") if is_stall(trace)]
    (trace,) = stalls
    assert trace.spans[0].trace_id == found[0]["shared"][0]
    assert [span.name for span in trace.tops] == ["train.stall"]
    assert [span.name for span in trace.ranks] == [f"rank {rank}" for rank in PLACES]
    for rank in trace.ranks:
        attributes = rank.attributes
        number = int(attributes["torch.distributed.rank"])
        assert attributes["torch.stall.reason"] == "killed"
        assert attributes["torch.stall.place"] == PLACES[number]
        assert attributes["torch.step"] == STALLED
        # Of the last step that had ended: where its time went.
        assert [child.name for child in rank.children] == [
            "dataloader.next",
            "forward DistributedDataParallel",
            "backward",
            "optimizer.step SGD",
        ]


def is_stall(trace: Trace) -> bool:
    return any(span.name == "train.stall" for span in trace.spans)
