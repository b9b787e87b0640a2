"""What `why` says of a real job of four ranks of which one is always a little late, and another much, once."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from otel_torch_modules.cli.main import main
from tests.distributed.launch import command, run
from tests.distributed.traces import read

pytestmark = pytest.mark.slow

STEPS, SLOW = 30, 20


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("straggling") / "traces.jsonl"
    causes = {"OTEL_TORCH_MODULES_CAUSES": "compile,checkpoint,collective"}
    run(command("straggling.py", str(STEPS), str(SLOW)), path, **causes)
    return path


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["why", *arguments]) == 0
    return " ".join(capsys.readouterr().out.split())


def test_who_is_last_how_often_where_and_what_that_costs_all(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    findings: list[dict[str, Any]] = json.loads(said(capsys, str(file), "--json"))["findings"]
    (late,) = [one for one in findings if one["rule"] == "straggler" and one["rank"] == 2]
    assert (late["place"], late["phase"]) == ("forward Sequential.1.mlp", "forward")
    assert len(late["steps"]) >= STEPS // 2
    assert SLOW not in late["steps"]
    assert re.match(
        r"Rank 2 is last in (nearly every step|\d+ of \d+ steps), by [\d.]+ ms; it loses them in "
        r"forward Sequential\.1\.mlp\. All ranks wait for it: \d+ % of the time\.$",
        late["sentence"],
    )
    assert late["cost_share"] > 0.2
    assert findings[0]["rule"] in ("straggler", "slow-step")


def test_the_shortest_collective_is_that_of_the_rank_that_came_last(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shortest = {}
    for trace in read(file):
        waits = [rank.find("all_reduce") for rank in trace.ranks]
        assert all(wait.attributes["torch.collective.completed"] for wait in waits)
        times = [wait.end - wait.start for wait in waits]
        shortest[trace.step] = times.index(min(times))
    assert shortest[SLOW] == 3
    assert list(shortest.values()).count(2) > STEPS * 2 / 3
    assert main(["stragglers", str(file)]) == 0
    rows = [row.split() for row in capsys.readouterr().out.splitlines()[1 : STEPS + 1]]
    assert {int(row[0]): int(row[2]) for row in rows} == shortest


def test_the_step_in_which_another_rank_was_late(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sentence = said(capsys, str(file), "--step", str(SLOW)).partition(". ")[0]
    found = re.fullmatch(
        rf"Step {SLOW} took (\d+) ms, ([\d.]+) × the usual ([\d.]+): \+(\d+) ms backward "
        r"Sequential\.2\.mlp \(usually ([\d.]+)\) on rank 3 alone; the others waited for it in all_reduce",
        sentence,
    )
    assert found, sentence
    took, times, usual, more, before = map(float, found.groups())
    assert took > 500
    assert times == pytest.approx(took / usual, rel=0.05)
    assert 400 < more < took
    assert before < 100
