"""The lane of a device, as commands see it: shown where spans are shown, and in no sum."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from otel_torch_modules._reading.traces import Traces
from otel_torch_modules.cli.main import main

Write = Callable[..., Path]
Said = pytest.CaptureFixture[str]
STEPS = 6
_SHOWN = ["--step", "0"], ["--unfold"], ["--slowest"]


def told(span: Any, lag: float, took: float) -> Any:
    """Return a span of a device that says when it came to it, and how long it was at it (ms)."""
    of_device = {"torch.device.lag": lag / 1e3, "torch.device.duration": took / 1e3}
    return span._replace(attributes={**(span.attributes or {}), **of_device})


def lane(sample: Any, start: float) -> Any:
    """Return the lane of a step that begins at `start` (ms), whose device is 400 ms behind."""

    def ran(phase: str, since: float, until: float) -> Any:
        return sample(phase, "device", start + since, start + until)

    below = (ran("forward", 400, 420), ran("backward", 420, 470), ran("optimizer", 470, 480))
    return sample("device", "device", start + 400, start + 480, below)


@pytest.fixture
def made(step: Callable[..., Any], sample: Any) -> Callable[..., list[Any]]:
    """Return steps of a process, or of two ranks, with lanes or without them."""

    def of_process(index: int, with_lanes: bool) -> Any:
        start = 100.0 * index
        one = step(index, start, 20 if index == 4 else 2)
        head, forward, backward, optimizer = one.children
        below = (
            head,
            told(forward, 398, 20),
            told(backward, 396, 50),
            told(optimizer, 395, 10),
            *([lane(sample, start)] if with_lanes else []),
        )
        return told(one._replace(children=below), 395, 80)

    def of_ranks(index: int, with_lanes: bool) -> Any:
        one = of_process(index, with_lanes)
        ranks = tuple(
            one._replace(
                name=f"rank {rank}",
                phase="rank",
                attributes={**one.attributes, "torch.distributed.rank": rank},
            )
            for rank in range(2)
        )
        return one._replace(children=ranks)

    def make(of: str, *, with_lanes: bool) -> list[Any]:
        make_one = of_ranks if of == "ranks" else of_process
        return [make_one(index, with_lanes) for index in range(STEPS)]

    return make


def answer(capsys: Said, *arguments: str) -> str:
    code = main([*arguments])
    said = capsys.readouterr()
    assert code == 0, said.err
    return said.out + said.err


@pytest.mark.parametrize("of", ["process", "ranks"])
def test_no_answer_counts_it(
    of: str, made: Callable[..., list[Any]], write_traces: Write, tmp_path: Path, capsys: Said
) -> None:
    answers = []
    for with_lanes in (True, False):
        path = str(write_traces(*made(of, with_lanes=with_lanes)))
        out = str(tmp_path / "out")
        found = [
            answer(capsys, *arguments)
            for arguments in (
                ["view", path],
                ["view", "--list", path],
                ["why", path],
                ["why", "--json", path],
                ["why", "--step", "4", path],
                ["compare", path, "--split", "3"],
                *([["stragglers", path]] if of == "ranks" else []),
            )
        ]
        for form in ("collapsed", "speedscope"):
            found.append(answer(capsys, "convert", path, "--to", form, "-o", out))
            found.append(Path(out).read_text())
        answer(capsys, "report", path, "-o", out)
        found.append(_but_for_flames(Path(out).read_text()))
        answers.append(found)
    for with_it, without_it in zip(*answers, strict=True):
        assert with_it == without_it


def _but_for_flames(page: str) -> str:
    """Return a report without its flame charts, which show where the device was at a step."""
    head, data, rest = re.split(r"(?<=id=\"data\">)(.*)(?=</script>)", page, maxsplit=1)
    drawn = json.loads(data)
    del drawn["flames"]
    return f"{head}{json.dumps(drawn)}{rest}"


@pytest.mark.parametrize("arguments", _SHOWN, ids=" ".join)
def test_a_step_with_a_row_for_each_span_ends_with_it(
    arguments: list[str], made: Callable[..., list[Any]], write_traces: Write, capsys: Said
) -> None:
    path = str(write_traces(*made("process", with_lanes=True)))
    rows = [row.split() for row in answer(capsys, "view", *arguments, path).splitlines()]
    names = [row[row.index("device") :][:2] for row in rows if "└─" in row and "device" in row]
    assert names == [["device", "80.00"]]
    at = next(place for place, row in enumerate(rows) if row[:2] == ["└─", "device"])
    assert [row[1:3] for row in rows[at + 1 : at + 4]] == [
        ["forward", "20.00"],
        ["backward", "50.00"],
        ["optimizer", "10.00"],
    ]


def test_timelines_and_tables_have_it_on_its_rank(
    made: Callable[..., list[Any]], write_traces: Write, tmp_path: Path, capsys: Said
) -> None:
    path, out = str(write_traces(*made("ranks", with_lanes=True))), tmp_path / "out"
    answer(capsys, "convert", path, "--to", "chrome", "-o", str(out))
    events = json.loads(out.read_text())["traceEvents"]
    processes = {one["pid"]: one["args"]["name"] for one in events if one["name"] == "process_name"}
    tracks = {
        (processes[one["pid"]], one["args"]["name"])
        for one in events
        if one["name"] == "thread_name"
    }
    assert {track for track in tracks if "device" in track[1]} == {
        (f"rank {rank}", "device") for rank in range(2)
    }
    answer(capsys, "convert", path, "--to", "parquet", "-o", str(out))
    rows = [row for row in parquet.read_table(out).to_pylist() if row["phase"] == "device"]
    assert sorted((row["step"], row["rank"], row["name"]) for row in rows) == sorted(
        (step, rank, name)
        for step in range(STEPS)
        for rank in range(2)
        for name in ("device", "forward", "backward", "optimizer")
    )
    assert all(row["parent_id"] for row in rows)


def test_what_is_left_of_one_makes_no_step_incomplete(
    made: Callable[..., list[Any]], write_traces: Write
) -> None:
    """A file of which a lane's first span was lost: the others lie where other steps do, and are of none."""
    path = write_traces(*made("process", with_lanes=True), per_line=1)
    lines = path.read_text().splitlines(keepends=True)
    kept = [line for line in lines if '"name": "device"' not in line]
    assert len(kept) == len(lines) - STEPS
    path.write_text("".join(kept))
    traces = Traces.read(path)
    assert len(traces.whole_steps) == len(traces.roots) == STEPS
    assert traces.fragments == 0
    assert traces.lanes == []
