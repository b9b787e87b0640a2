"""`top`: who is behind whom, as far as can be told, and a table that fits."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from otel_torch_modules._control import files
from otel_torch_modules._control.report import ACCEPTED, MODULES, NOTHING, PHASES, Answer, Report
from otel_torch_modules._control.request import Request, RunStart
from otel_torch_modules.cli import top
from otel_torch_modules.cli.main import main
from otel_torch_modules.cli.ranks_seen import SeenRanks
from otel_torch_modules.cli.standings import rest, rows
from otel_torch_modules.cli.top import print_once

RUN = RunStart("night 3", "1.0", 4)
LAYER = "forward GPT.transformer.h.11.mlp.c_fc"


def report(rank: int, step: int = 90, place: str = "backward", **more: object) -> Report:
    made = Report(RUN, rank, True, "h", 1, step, 0.5, place, 0.1, NOTHING, 1.0, None, 0)
    return made._replace(**more)


def behind(*reports: Report, silent: dict[int, float] | None = None) -> list[str]:
    by_rank = {one.rank: one for one in reports}
    return [row.behind for row in rows(SeenRanks(RUN, by_rank, silent or {}, set(), 0, []))]


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        ((report(0), report(1)), ["", ""]),
        # What they say is up to two seconds apart, four steps; another may have begun since.
        ((report(0, 95), report(1, 90)), ["", ""]),
        ((report(0, 96), report(1, 90)), ["", "rank 0, 6 steps"]),
        ((report(0, 91, since=9.0), report(1, 90, since=9.0)), ["", "rank 0, 1 step"]),
        ((report(0, 91, since=9.0), report(1, 90, since=1.0)), ["", ""]),  # that one gets on
        (
            (report(0, since=9.0), report(1, place=LAYER, since=9.0), report(2, since=9.0)),
            ["", "rank 0, backward", ""],
        ),
        ((report(0, since=0.1), report(1, place=LAYER, since=9.0)), ["", ""]),
        ((report(0, since=9.0), report(1, place="", since=9.0)), ["", ""]),  # nobody knows
        (
            (report(0, since=9.0), report(1, place="dataloader.next", since=9.0)),
            ["", "rank 0, backward"],
        ),
        ((report(0, 95, seconds_per_step=None), report(1)), ["", ""]),
    ],
)
def test_a_rank_is_behind_where_that_can_be_told(
    reports: tuple[Report, ...], expected: list[str]
) -> None:
    assert behind(*reports) == expected


def test_one_that_gives_no_sign_is_nobodys_measure() -> None:
    gone = report(0, 500)
    assert behind(gone, report(1, 96), report(2), silent={0: 12.3}) == [
        "no sign for 12 s", "", "rank 1, 6 steps",
    ]  # fmt: skip
    assert behind(gone, report(1), silent={0: 12.3, 1: 70.0}) == [
        "no sign for 12 s", "no sign for 70 s",
    ]  # fmt: skip


def test_the_worst_come_first() -> None:
    reports = [
        report(0, since=9.0),
        report(1, since=9.0, seconds_per_step=0.9),
        report(2, 88, since=9.0),
        report(3, since=9.0, place=LAYER),
        report(4, since=9.0),
    ]
    found = rows(SeenRanks(RUN, {one.rank: one for one in reports}, {4: 20.0}, set(), 0, []))
    worst = sorted(found, key=lambda row: row.badness)
    assert [row.rank for row in worst] == [4, 2, 3, 1, 0]
    assert (
        rest(worst[1:]) == "4 more ranks; steps 88 to 90; 500.0 to 900.0 ms; backward 3, forward 1"
    )
    assert rest(worst[-1:]) == "1 more rank; step 90; 500.0 to 500.0 ms; backward 1"


def put(folder: Path, *reports: Report) -> None:
    for one in reports:
        files.put(folder / f"rank-{one.rank}.json", one.said())


def test_one_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    answer = Answer("a", ACCEPTED)
    put(
        tmp_path,
        report(0, since=9.0, recorded=MODULES, answer=answer),
        report(1, since=9.0, recorded=PHASES, place=LAYER, answer=answer),
        report(2, since=9.0, place="optimizer.step AdamW", seconds_per_step=None),
    )
    request = Request("a", RUN, 100, 104, "all", False, "all", "me")
    files.put(tmp_path / "request.json", request.said())
    assert main(["top", str(tmp_path), "--once"]) == 0
    assert capsys.readouterr().out == (
        "run night 3, restart 1, world size 4 · step 90 · 500.0 ms a step\n"
        "Asked for: steps 100 to 104, in about 4 s; 2 of 3 ranks have read it\n"
        "No file of rank 3\n"
        "\n"
        " rank     step  ms/step  phase     module           behind              recorded\n"
        "    0       90    500.0  backward                   rank 2, optimizer   modules\n"
        "    1       90    500.0  forward   …r.h.11.mlp.c_fc rank 2, optimizer   phases\n"
        "    2       90           optimizer AdamW\n"
    )


@pytest.mark.parametrize("width", [80, 100, 200])
def test_many_ranks_are_folded_to_the_height_of_the_terminal(
    width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(top, "_FIRST_SIGN_S", 0.0)  # the one that is silent gives none
    put(tmp_path, *(report(rank, 90, f"forward GPT.{'層' * rank}") for rank in range(60)))
    os.utime(tmp_path / "rank-41.json", (1, 1))
    console = Console(width=width, height=40, force_terminal=True, color_system=None, record=True)
    print_once(tmp_path, console)
    lines = console.export_text().splitlines()
    assert len(lines) <= 39
    assert max(map(cell_len, lines)) <= width
    assert lines[3].split()[:2] == ["41", "90"]
    assert lines[-1].startswith("26 more ranks; step 90; ")


@pytest.mark.parametrize("made", [False, True])
def test_where_there_is_nothing_to_show(
    made: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "control"
    if made:
        folder.mkdir()
    assert main(["top", str(folder)]) == 2
    said = "no rank says anything there" if made else "No such file or directory"
    assert f"otel-torch-modules: {folder}: {said}" in capsys.readouterr().err


def test_files_that_say_anything_reach_no_terminal_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "\x1b[2Jx\u202e\n[red]y[/red]"
    put(tmp_path, report(0, place=f"{evil} {evil}", run=RUN._replace(name=evil, restarts=evil)))
    (tmp_path / "rank-1.json").write_text('{"rank": "' + "x" * 99 + '"}')
    assert main(["top", str(tmp_path), "--once"]) == 0
    out = capsys.readouterr().out
    assert all(character.isprintable() or character == "\n" for character in out)
    assert "[red]y[/red]" in out
