"""A program that changes its environment once it trains: spans and metrics go where it had said before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.training_program import ENABLED, STEP, TRAIN, outlines, run


@pytest.mark.parametrize(
    "change",
    [
        "os.environ.clear()",
        "os.environ.update(OTEL_TRACES_EXPORTER='none', OTEL_METRICS_EXPORTER='none')",
        "os.environ.update(OTEL_TORCH_MODULES_FILE='elsewhere.txt', OTEL_SERVICE_NAME='other')",
    ],
)
def test_all_goes_where_it_was_to_go_when_the_first_step_began(tmp_path: Path, change: str) -> None:
    source = f"""{TRAIN}
import os
train(1)
{change}
train(3)
"""
    done = run(
        tmp_path,
        source,
        **ENABLED,
        OTEL_TORCH_MODULES_FILE=str(tmp_path / "rank-{rank}.jsonl"),
        OTEL_TORCH_MODULES_RUN_ID="run",
        OTEL_METRICS_EXPORTER="console",
        OTEL_SERVICE_NAME="own",
        RANK="3",
        WORLD_SIZE="4",
        LOCAL_RANK="3",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".py"] == ["rank-3.jsonl"]
    assert outlines(tmp_path) == 4 * [["rank 3", *STEP[1:]]]
    lines = [json.loads(line) for line in (tmp_path / "rank-3.jsonl").read_text().splitlines()]
    told = json.loads(done.stdout)["resource_metrics"][0]["resource"]["attributes"]
    for line in lines:
        for resource in line["resourceSpans"]:
            attributes = {one["key"]: one["value"] for one in resource["resource"]["attributes"]}
            assert attributes["service.name"] == {"stringValue": told["service.name"]}
            assert attributes["torch.distributed.rank"] == {"intValue": "3"}
    assert (told["service.name"], told["torch.distributed.rank"]) == ("own", 3)
