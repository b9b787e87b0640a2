"""A rank's side of the folder: its file, what it does with requests, and what goes wrong."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from otel_torch_modules._control import files
from otel_torch_modules._control.report import (
    ACCEPTED,
    DONE,
    MOST_TRACES,
    NOTHING,
    REFUSED,
    Answer,
    Report,
)
from otel_torch_modules._control.request import Request, RunStart
from otel_torch_modules._engine import control
from otel_torch_modules._engine.control import Control, Rank, Stand
from otel_torch_modules._records import Record
from tests.support.dead_process import dead_pid
from tests.support.folders import gone, taken
from tests.support.hand_set_clock import HandSetClock

RUN = RunStart("night 3", "0.0", 4)


class Requests:
    """What the training thread would be told."""

    request: Request | None = None

    def end(self) -> None:
        self.request = None

    def forget(self) -> None:
        self.end()


class Process:
    """A rank that is in a step."""

    def __init__(self, folder: Path, rank: int = 2) -> None:
        self.folder = folder
        self.clock = HandSetClock()
        self.step = 100
        self.rank: Rank | None = Rank(RUN, rank, True)
        self.requests = Requests()
        self.prepared = 0
        self.file = folder / f"rank-{rank}.json"
        self.control = Control(
            folder, lambda: self.rank, self._stand, lambda: self.step + 1, self.requests,
            self._prepare, self.clock,
        )  # fmt: skip

    def _stand(self) -> Stand:
        return Stand(self.step, self.step, self.step * 10**9, "backward", 0.5, NOTHING)

    def _prepare(self) -> None:
        self.prepared += 1

    def look(self, seconds: float = 1.0) -> Report:
        """Look once more, so much later, and return what the file says then."""
        self.clock.now += seconds
        self.control.look()
        return Report.of(files.read(self.file))

    def answer(self) -> Answer:
        answer = self.look().answer
        assert answer is not None
        return answer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "control"


def ask(process: Process, first: int = 110, last: int = 112, run: RunStart = RUN) -> Request:
    request = Request(f"{first}-{last}", run, first, last, "all", False, "all", "me")
    files.put(process.folder / "request.json", request.said())
    return request


def test_it_says_once_a_second_where_it_stands(folder: Path) -> None:
    process = Process(folder)
    said = []
    for process.step in range(100, 110):
        said.append(process.look(0.25).step)
    assert said == [100, 100, 100, 100, 104, 104, 104, 104, 108, 108]
    report = process.look(1.0)
    assert (report.run, report.rank, report.pid) == (RUN, 2, os.getpid())
    assert (report.place, report.seconds_per_step, report.answer) == ("backward", 1.0, None)


def test_nothing_is_written_by_who_is_no_rank_or_has_not_begun(folder: Path) -> None:
    process = Process(folder)
    process.rank = None
    process.control.look()
    assert not folder.exists()


def test_a_request_is_followed_to_its_end_and_once(folder: Path) -> None:
    process = Process(folder)
    process.look()
    request = ask(process)
    assert process.answer() == Answer("110-112", ACCEPTED)
    assert (process.requests.request, process.prepared) == (request, 1)
    for process.step in (110, 111, 112):
        process.look(0.25)
        assert process.requests.request == request
    for step in (110, 111):
        process.control.asked.tell(Record("step", step, 0, 0, trace_id=step), "/t.jsonl")
    process.step = 113
    process.look(0.25)  # before the next file is due
    assert process.requests.request is None
    process.control.asked.tell(
        Record("step", 112, 0, 0, trace_id=112), "/t.jsonl"
    )  # it comes a moment later
    traces = tuple((step, f"{step:032x}") for step in (110, 111, 112))
    assert process.answer() == Answer("110-112", DONE, "", 3, traces, "/t.jsonl")
    assert process.requests.request is None
    assert process.answer().said == DONE


def test_a_long_request_names_the_first_traces_only(folder: Path) -> None:
    process = Process(folder)
    process.look()
    ask(process, 110, 160)
    process.look()
    for step in range(110, 161):
        process.control.asked.tell(Record("step", step, 0, 0, trace_id=step), "")
    process.step = 161
    assert (process.answer().recorded, len(process.answer().traces)) == (51, MOST_TRACES)


@pytest.mark.parametrize(
    ("first", "accepted"), [(99, False), (100, False), (101, True), (102, True)]
)
def test_a_request_whose_first_step_has_begun_is_too_late(
    first: int, accepted: bool, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    process = Process(folder)  # step 100 is open
    process.look()
    ask(process, first, first + 4)
    with caplog.at_level(logging.WARNING):
        answer = process.answer()
    assert (answer.said, process.requests.request is not None) == (
        (ACCEPTED, True) if accepted else (REFUSED, False)
    )
    if not accepted:
        assert answer.why == f"too late: step 100 has begun, and it begins with {first}"
        assert [record.message for record in caplog.records] == [
            f"The request in {folder} is not followed: {answer.why}"
        ]


@pytest.mark.parametrize(
    "run", [RUN._replace(name="another"), RUN._replace(restarts="1.0"), RUN._replace(world_size=8)]
)
def test_a_request_for_another_run_is_not_followed(run: RunStart, folder: Path) -> None:
    process = Process(folder)
    process.look()
    ask(process, run=run)
    answer = process.answer()
    assert (answer.said, answer.why) == (REFUSED, f"it is for {run}; this is {RUN}")
    assert process.requests.request is None


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"id": "7", "first": 1}', "[" * 99_999])
def test_what_is_no_request_is_said_and_not_followed(
    text: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    process = Process(folder)
    process.look()
    (folder / "request.json").write_text(text)
    with caplog.at_level(logging.WARNING):
        answers = [process.answer(), process.answer()]
    assert {answer.said for answer in answers} == {REFUSED}
    assert {answer.id for answer in answers} == {"7" if '"id"' in text else ""}
    assert len(caplog.records) == 1
    assert "is not followed: malformed: " in caplog.text
    assert process.requests.request is None


def test_a_request_from_before_the_process_is_none_to_it(folder: Path) -> None:
    process = Process(folder)
    folder.mkdir()
    ask(process)
    assert process.look().answer is None
    assert process.requests.request is None
    ask(process, 120, 124)
    assert process.answer().said == ACCEPTED


def test_a_request_that_is_taken_away_before_it_begins_is_dropped(folder: Path) -> None:
    process = Process(folder)
    process.look()
    ask(process)
    process.look()
    (folder / "request.json").unlink()
    assert process.look().answer is None
    assert process.requests.request is None


def test_a_request_that_is_taken_away_after_it_has_begun_is_followed(folder: Path) -> None:
    process = Process(folder)
    process.look()
    request = ask(process)
    process.look()
    process.step = 110
    (folder / "request.json").unlink()
    assert process.answer().said == ACCEPTED
    assert process.requests.request == request


def test_another_request_takes_the_place_of_one_that_has_not_begun_only(folder: Path) -> None:
    process = Process(folder)
    process.look()
    ask(process)
    process.look()
    second = ask(process, 120, 121)
    assert process.answer() == Answer("120-121", ACCEPTED)
    assert process.requests.request == second
    process.step = 120
    ask(process, 130, 131)
    assert process.answer() == Answer("130-131", REFUSED, "steps 120 to 121 are being recorded")
    assert process.requests.request == second


def test_an_end_in_good_order_leaves_nothing(folder: Path) -> None:
    process = Process(folder)
    process.look()
    process.control.close()
    process.clock.now += 5
    process.control.look()
    assert list(folder.iterdir()) == []


def test_an_end_does_not_wait_for_a_file_system_that_does_not_answer(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "_PATIENCE_S", 0.01)
    process = Process(folder)
    process.look()
    with process.control._lock:  # as the worker has it while it writes
        process.control.close()
    process.clock.now += 5
    process.control.look()
    assert [path.name for path in folder.iterdir()] == ["rank-2.json"]


def test_a_forked_child_leaves_the_file_alone_and_may_have_its_own(folder: Path) -> None:
    process = Process(folder)
    process.look()
    ask(process)
    process.look()
    process.control.forget()
    assert process.requests.request is None
    process.rank = None
    process.clock.now += 5
    process.control.look()
    process.control.close()
    assert [path.name for path in sorted(folder.iterdir())] == ["rank-2.json", "request.json"]


@pytest.mark.parametrize("before", [True, False])
def test_a_folder_that_cannot_be_is_said_once_and_tried_again(
    before: bool, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    process = Process(folder)
    if not before:
        process.look()
        gone(folder)
    taken(folder)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            process.clock.now += 1
            process.control.look()
    (record,) = caplog.records
    assert record.message.startswith(f"OTEL_TORCH_MODULES_CONTROL: {folder}/rank-2.json: ")
    assert record.message.endswith("; it is tried again")
    folder.unlink()
    assert process.look().step == 100


def test_a_folder_that_was_taken_away_is_made_again(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    process = Process(folder)
    process.look()
    gone(folder)
    assert process.look().step == 100
    ask(process)
    assert process.answer().said == ACCEPTED
    assert not caplog.records


def test_a_request_that_cannot_be_read_is_said_once_and_read_when_it_can(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    process = Process(folder)
    process.look()
    ask(process)
    (folder / "request.json").rename(folder / "elsewhere")
    (folder / "request.json").symlink_to(folder / "elsewhere")  # none is followed
    with caplog.at_level(logging.WARNING):
        for process.step in range(100, 103):
            assert process.look().step == process.step
            assert process.look().answer is None
    (record,) = caplog.records
    assert record.message.endswith("; it is tried again")
    # The file that is told by the same numbers can be read now.
    (folder / "request.json").unlink()
    (folder / "elsewhere").rename(folder / "request.json")
    assert process.answer().said == ACCEPTED


@pytest.mark.parametrize(
    ("host", "pid", "taken_at_once"),
    [
        (socket.gethostname, os.getppid, False),
        (socket.gethostname, dead_pid, True),
        (lambda: "another", os.getppid, True),
    ],
)
def test_a_file_of_a_process_that_writes_it_is_left_alone(
    host: Callable[[], str], pid: Callable[[], int], taken_at_once: bool, folder: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    folder.mkdir()
    process = Process(folder)
    other = {"host": host(), "pid": pid()}
    with caplog.at_level(logging.WARNING):
        for time in range(3):
            if not time or not taken_at_once:
                process.file.write_text(json.dumps({**other, "time": time}))
            process.clock.now += 1
            process.control.look()
    assert (files.read(process.file)["pid"] == os.getpid()) is taken_at_once
    assert ("each job needs a folder" in caplog.text) is not taken_at_once
    process.clock.now += 1
    for _ in range(6):  # it writes no more: its number is another's by now
        process.clock.now += 1
        process.control.look()
    assert files.read(process.file)["pid"] == os.getpid()


def test_a_slow_folder_is_looked_at_so_much_less_often(folder: Path) -> None:
    process = Process(folder)

    def slow() -> Rank:
        process.clock.now += 0.5
        return Rank(RUN, 2, True)

    process.control._rank = slow
    looks = []
    for _ in range(100):
        looks.append(process.look(0.25).time)
    assert process.look(0.25).look == 10.0
    assert len(set(looks)) == 3  # in 25 s


def test_an_error_of_ours_ends_it_and_is_said(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    process = Process(folder)
    process.look()
    ask(process)
    process.look()

    def broken() -> Rank:
        raise KeyError("ours")

    process.control._rank = broken
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            process.look()
    assert [record.message for record in caplog.records] == [
        f"{folder} is looked at no more; training goes on"
    ]
    assert process.requests.request is None
