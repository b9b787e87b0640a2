"""`record`: what is asked of whom, and each way in which it is not to be had; the ranks' side is the real one."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from otel_torch_modules._control import files
from otel_torch_modules._control.report import ACCEPTED, DONE, NOTHING, REFUSED, Answer, Report
from otel_torch_modules._control.request import Request, RunStart
from otel_torch_modules.cli import record as record_module
from otel_torch_modules.cli.asking import (
    first_step,
    outlook,
    traces,
    what_hinders,
    what_is_not_there,
)
from otel_torch_modules.cli.main import main
from otel_torch_modules.cli.ranks_seen import RanksFolder, SeenRanks
from tests.support.hand_set_clock import HandSetClock
from tests.support.simulated_ranks import RUN, SimulatedRank, SimulatedRanks

REQUEST = Request("a1", RUN, 100, 104, "all", False, "all", "ana, process 7 on login-2")


def report(rank: int, step: int = 90, pace: float | None = 0.5, **more: object) -> Report:
    made = Report(RUN, rank, True, "h", 1, step, pace, "backward", 0.0, NOTHING, 1.0, None, 0)
    return made._replace(**more)


def of(*reports: Report) -> dict[int, Report]:
    return {one.rank: one for one in reports}


@pytest.mark.parametrize(
    ("reports", "first"),
    [
        (of(report(0, 90)), 90 + 1 + 10),  # in five seconds
        (of(report(0, 90), report(1, 92)), 92 + 1 + 10),
        (of(report(0, 90, 0.5), report(1, 90, 0.001)), 90 + 1 + 5_000),
        (of(report(0, 90, 600.0)), 92),  # not the next: a rank may have begun with that
        (of(report(0, 90), report(1, 90, look=10.0)), 90 + 1 + 46),  # a slow folder
    ],
)
def test_the_first_step_is_far_enough_ahead_for_all(reports: dict[int, Report], first: int) -> None:
    assert first_step(reports) == first


def ranks(reports: dict[int, Report], silent: dict[int, float] | None = None) -> SeenRanks:
    return SeenRanks(RUN, reports, silent or {}, set(reports), 0, [])


def test_what_hinders() -> None:
    all_ranks = of(*map(report, range(4)))
    assert what_hinders(ranks(all_ranks)) == ""
    assert what_hinders(ranks(all_ranks, {2: 12.4})) == "rank 2 has given no sign for 12 s"
    assert what_hinders(ranks(of(report(1)))) == (
        "the job has 4 ranks, and ranks 0, 2, 3 have no file there: do all hosts share the folder?"
    )
    apart = ranks(of(report(1)))._replace(earlier=2)  # nodes that count restarts for themselves
    assert what_hinders(apart).endswith("There are 2 files of other starts or runs.")
    assert "no rank has written" in what_hinders(SeenRanks(None, {}, {}, set(), 0, []))


@pytest.mark.parametrize(
    ("named", "world_size", "said"),
    [
        ("all", 1, ""),
        ("0", 1, ""),
        ("*/64", 4, ""),
        ("0-7", 4, ""),  # as far as there are any
        ("7", 1, "--ranks 7: the job has no such rank; it has rank 0 alone"),
        ("0, 4", 4, "--ranks 4: the job has no such rank; it has ranks 0 to 3"),
        ("8-15", 4, "--ranks 8-15: the job has no such rank; it has ranks 0 to 3"),
    ],
)
def test_ranks_that_the_job_has_not_are_named(named: str, world_size: int, said: str) -> None:
    assert what_is_not_there(named, RUN._replace(world_size=world_size)) == said


@pytest.mark.slow
def test_of_ranks_that_are_not_there_nothing_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ranks = [SimulatedRank(tmp_path, number) for number in range(4)]
    with SimulatedRanks(ranks):
        assert ask(tmp_path, "--ranks", "1,7") == 2
    said = "otel-torch-modules: --ranks 7: the job has no such rank; it has ranks 0 to 3\n"
    assert capsys.readouterr().err == said
    assert not (tmp_path / "request.json").exists()
    assert [rank.recorded for rank in ranks] == [[]] * 4


def answered(rank: int, said: str, why: str = "", recorded: int = 0, step: int = 95) -> Report:
    return report(rank, step, answer=Answer("a1", said, why, recorded))


@pytest.mark.parametrize(
    ("reports", "fault", "left"),
    [
        (of(answered(0, ACCEPTED), answered(1, ACCEPTED, step=94)), "", 2.5),
        (of(answered(0, ACCEPTED), report(1, 95)), "", 2.5),
        (of(answered(0, ACCEPTED), report(1, 98)), "rank 1 has not answered", 1.0),
        (of(answered(0, ACCEPTED), report(1, 96, since=9.0)), "", 1.5),  # a step longer than usual
        (of(answered(0, ACCEPTED), answered(1, REFUSED, "too late")), "rank 1: too late", 2.5),
        (of(report(0), report(1, 100)), "ranks 0, 1 have not answered", 0.0),
    ],
)
def test_what_has_become_of_a_request(reports: dict[int, Report], fault: str, left: float) -> None:
    seen = outlook(REQUEST, reports)
    assert (seen.fault, seen.left, seen.done) == (fault, left, False)


@pytest.mark.parametrize(
    ("reports", "through", "done", "complete"),
    [
        (of(answered(0, ACCEPTED, step=103), answered(1, ACCEPTED, step=102)), 2, False, False),
        (of(answered(0, DONE, recorded=5), answered(1, ACCEPTED, step=103)), 0, False, False),
        (of(answered(0, DONE, recorded=5), answered(1, DONE, recorded=4)), 5, True, False),
        (of(answered(0, DONE, recorded=5), answered(1, DONE, recorded=5)), 5, True, True),
        (of(answered(0, DONE, recorded=5), answered(1, DONE)._replace(records=False)), 5, True, True),
    ],
)  # fmt: skip
def test_how_far_it_is(
    reports: dict[int, Report], through: int, done: bool, complete: bool
) -> None:
    seen = outlook(REQUEST, reports)
    assert (seen.through, seen.done, seen.complete) == (through, done, complete)


def test_traces_are_told_by_step_and_rank() -> None:
    first, second = (Answer("a1", DONE, "", 2, ((101, f"b{n}"), (100, "a"))) for n in range(2))
    found = traces(of(report(1, answer=second), report(0, answer=first), report(2)))
    assert found == {100: {0: "a", 1: "a"}, 101: {0: "b0", 1: "b1"}}
    assert list(found) == [100, 101]


def put(folder: Path, made: Report) -> None:
    folder.mkdir(exist_ok=True)
    files.put(folder / f"rank-{made.rank}.json", made.said())


def test_who_lives_is_told_by_files_that_change_and_not_by_clocks(tmp_path: Path) -> None:
    clock = HandSetClock()
    folder = RanksFolder(tmp_path, clock)
    for rank in range(2):
        put(tmp_path, report(rank, time=10))
        os.utime(tmp_path / f"rank-{rank}.json", (2**32, 2**32))  # their host's clock is ahead
    assert (folder.look().silent, folder.look().fresh) == ({}, set())
    for step in range(91, 95):
        clock.now += 5
        put(tmp_path, report(0, step))
        found = folder.look()
    assert (found.fresh, found.silent) == ({0}, {1: 20.0})


def test_files_of_other_starts_and_those_that_are_none_are_left_out(tmp_path: Path) -> None:
    put(tmp_path, report(0))
    put(tmp_path, report(3, run=RUN._replace(restarts="1.0")))
    put(tmp_path, report(5, run=RunStart("another", "0.0", 8)))
    os.utime(tmp_path / "rank-3.json", (1, 1))
    os.utime(tmp_path / "rank-5.json", (1, 1))
    (tmp_path / "rank-7.json").write_text("{")
    (tmp_path / "request.json").write_text("{")
    found = RanksFolder(tmp_path).look()
    assert (found.run, list(found.reports), found.missing) == (RUN, [0], [1, 2, 3])
    assert (found.earlier, len(found.unreadable)) == (2, 1)
    assert found.unreadable[0].startswith(f"{tmp_path}/rank-7.json: ")


# The command.


def ask(folder: Path, *arguments: str) -> int:
    return main(["record", str(folder), *arguments])


def started(folder: Path) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "otel_torch_modules", "record", str(folder), "--steps", "2"]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (folder / "request.json").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "1001"], "argument --steps: '1001' is more than 1000"),
        (["--modules", "some"], "invalid choice: 'some'"),
        (["--ranks", "3-1"], "'3-1' is not allowed; it must be all, or ranks, ranges and steps"),
    ],
)
def test_wrong_arguments_are_named(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        ask(tmp_path, *arguments)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("case", ["no folder", "nothing", "killed", "part", "shapes"])
def test_where_nobody_can_be_asked(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_module, "_FIRST_SIGN_S", 0.0)
    folder = tmp_path / "control"
    if case != "no folder":
        folder.mkdir()
    for rank in {"killed": range(4), "part": range(2)}.get(case, range(0)):
        put(folder, report(rank))
        if case == "killed":
            os.utime(folder / f"rank-{rank}.json", (1, 1))
    arguments = ["--shapes", "--modules", "phases"] if case == "shapes" else []
    assert ask(folder, *arguments) == 2
    said = capsys.readouterr().err
    assert {
        "no folder": f"{folder}: No such file or directory",
        "nothing": f"{folder}: no rank has written anything there",
        "killed": f"{folder}: ranks 0, 1, 2, 3 have given no sign for ",
        "part": f"{folder}: the job has 4 ranks, and ranks 2, 3 have no file there",
        "shapes": "--shapes are those of modules: not with --modules phases",
    }[case] in said
    assert not (folder / "request.json").exists()


@pytest.mark.slow
def test_one_asks_at_a_time_and_who_is_interrupted_takes_the_request_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ranks = [SimulatedRank(tmp_path, number, seconds_per_step=1.0) for number in range(4)]
    with SimulatedRanks(ranks):
        process = started(tmp_path)
        other = Request.of(files.read(tmp_path / "request.json"))
        assert ask(tmp_path) == 2
        assert f"{other.steps} are asked for already, by {other.asked_by}: wait" in (
            capsys.readouterr().err
        )
        assert Request.of(files.read(tmp_path / "request.json")) == other
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out.splitlines()[-1] == "The request is withdrawn; nothing is recorded."
    assert not (tmp_path / "request.json").exists()
    assert [rank.recorded for rank in ranks] == [[]] * 4


@pytest.mark.slow
def test_one_that_refuses_keeps_the_others_from_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Hasty(SimulatedRank):
        """Has made a thousand steps more by the time it reads the request."""

        def go_on(self) -> None:
            if (tmp_path / "request.json").exists():
                self.ahead = 1_000
            super().go_on()

    made = [SimulatedRank(tmp_path, number) for number in (0, 1, 3)] + [Hasty(tmp_path, 2)]
    with SimulatedRanks(made):
        assert ask(tmp_path) == 2
    assert re.fullmatch(
        r"otel-torch-modules: rank 2: too late: step 1\d+ has begun, and it begins with \d+\. "
        r"The request is withdrawn; nothing is recorded\.\n",
        capsys.readouterr().err,
    )
    assert not (tmp_path / "request.json").exists()
    assert [rank.recorded for rank in made] == [[]] * 4


@pytest.mark.slow
def test_who_does_not_read_it_in_time_keeps_the_others_from_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Blind(SimulatedRank):
        def go_on(self) -> None:
            if not (tmp_path / "request.json").exists():
                super().go_on()

    made = [SimulatedRank(tmp_path, number) for number in range(3)] + [Blind(tmp_path, 3)]
    with SimulatedRanks(made):
        assert ask(tmp_path) == 2
    assert capsys.readouterr().err == (
        "otel-torch-modules: rank 3 has not answered. The request is withdrawn; nothing is recorded.\n"
    )
    assert [rank.recorded for rank in made] == [[]] * 4


@pytest.mark.slow
def test_what_is_left_of_an_earlier_request_is_no_hindrance(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files.put(tmp_path / "request.json", REQUEST._replace(first=0, last=1).said())
    made = [SimulatedRank(tmp_path, number) for number in range(4)]
    with SimulatedRanks(made):
        assert ask(tmp_path, "--steps", "3", "--modules", "phases") == 0
    steps = made[0].recorded
    assert len(steps) == 3
    assert [rank.recorded for rank in made] == [steps] * 4
    first, _, last = steps
    lines = capsys.readouterr().out.splitlines()
    assert lines[-6:] == [
        f"Steps {first} to {last} are recorded on ranks 0, 1, 2, 3.",
        *(f"  step {step}  trace {1 + step:032x}" for step in steps),
        f"Look at one: otel-torch-modules view FILE --step {first}",
        f"Jaeger: tag torch.step={first}, or torch.step.kept=requested for all",
    ]
    assert f"Asked for 3 steps, {first} to {last}, with phases only on all ranks." in lines
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        f"rank-{n}.json" for n in range(4)
    ]


@pytest.mark.slow
def test_a_request_that_is_none_is_not_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with SimulatedRanks([SimulatedRank(tmp_path, number) for number in range(4)]):
        (tmp_path / "request.json").write_text("{}")
        assert ask(tmp_path) == 2
    assert f"{tmp_path}/request.json is no request (" in capsys.readouterr().err
    assert (tmp_path / "request.json").read_text() == "{}"
