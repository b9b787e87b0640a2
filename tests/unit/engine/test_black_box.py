"""The file of a process that may be killed: when it is written, when it is gone, and whose it is."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_torch_modules._engine import black_box
from otel_torch_modules._engine.black_box import BlackBox
from tests.support.dead_process import dead_pid
from tests.support.folders import gone, taken
from tests.support.hand_set_clock import HandSetClock


class Process:
    """One that stands somewhere."""

    def __init__(self, folder: Path, rank: int | None = 2) -> None:
        self.clock = HandSetClock()
        self.standing: dict[str, Any] | None = {"step": 1}
        self.file = folder / f"rank-{rank or 0}.json"
        self.box = BlackBox(folder, lambda: rank, lambda: self.standing, self.clock)

    def look(self) -> dict[str, Any] | None:
        """Look, and return what the file says then."""
        self.box.look()
        return json.loads(self.file.read_text()) if self.file.exists() else None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "box" / "of the job"


def steps(process: Process, standing: Iterator[dict[str, Any] | None]) -> list[int]:
    """Return what step the file says after each look, a fifth of a second apart."""
    found = []
    for process.standing in standing:
        said = process.look()
        found.append(0 if said is None else said["step"])
        process.clock.now += 0.25
    return found


def test_it_is_written_at_most_once_a_second(folder: Path) -> None:
    process = Process(folder)
    assert process.box.left_behind() is None
    standing: Iterator[dict[str, Any] | None] = ({"step": step} for step in range(1, 10))
    assert steps(process, standing) == [1, 1, 1, 1, 5, 5, 5, 5, 9]


def test_it_is_not_written_where_nothing_has_changed(folder: Path) -> None:
    process = Process(folder)
    process.box.left_behind()
    first = process.look()
    process.clock.now += 5
    assert process.look() == first  # the time in it too


def test_nothing_is_written_before_there_is_anything_to_say(folder: Path) -> None:
    process = Process(folder, rank=None)
    process.standing = None
    process.box.left_behind()
    assert process.look() is None
    process.standing = {"step": 1}
    process.clock.now += 1
    assert process.look() is not None


def test_an_end_in_good_order_leaves_nothing(folder: Path) -> None:
    process = Process(folder)
    process.box.left_behind()
    process.look()
    process.box.close()
    process.clock.now += 5
    process.standing = {"step": 2}
    process.box.look()
    assert list(folder.iterdir()) == []


def test_an_end_does_not_wait_for_a_file_system_that_does_not_answer(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(black_box, "_PATIENCE_S", 0.01)
    process = Process(folder)
    process.box.left_behind()
    process.look()
    with process.box._lock:  # as the worker has it while it writes
        process.box.close()
    process.clock.now += 5
    process.standing = {"step": 2}
    process.box.look()
    assert [path.name for path in folder.iterdir()] == ["rank-2.json"]


def test_what_a_killed_process_left_is_found_once_by_the_next_of_its_rank(folder: Path) -> None:
    killed = Process(folder)
    killed.box.left_behind()
    written = killed.look()
    following = Process(folder)
    assert Process(folder, rank=3).box.left_behind() is None
    assert following.box.left_behind() == written
    assert following.box.left_behind() is None


@pytest.mark.parametrize(
    ("host", "pid", "is_left"),
    [
        (socket.gethostname, os.getppid, False),
        (socket.gethostname, dead_pid, True),
        (lambda: "another", os.getppid, True),
        (socket.gethostname, lambda: "7", True),
        (socket.gethostname, lambda: 1 << 80, True),
    ],
)
def test_the_file_of_a_process_that_runs_is_left_alone(
    host: Callable[[], str],
    pid: Callable[[], object],
    is_left: bool,
    folder: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder.mkdir(parents=True)
    process = Process(folder)
    text = json.dumps({"step": 9, "host": host(), "pid": pid()})
    process.file.write_text(text)
    with caplog.at_level(logging.WARNING):
        found = process.box.left_behind()
    assert (found is not None) is is_left
    process.box.look()
    process.box.close()
    assert (process.file.exists() and process.file.read_text() == text) is not is_left
    assert ("each job needs a folder" in caplog.text) is not is_left


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "[" * 100_000, "\ud800"])
def test_a_file_that_is_none_of_ours_is_nobodys(text: str, folder: Path) -> None:
    folder.mkdir(parents=True)
    process = Process(folder)
    process.file.write_bytes(text.encode("utf-8", "surrogatepass"))
    assert process.box.left_behind() is None
    assert process.look() is not None


@pytest.mark.parametrize("before", [True, False])
def test_a_folder_that_cannot_be_is_said_once_and_tried_again(
    before: bool, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    process = Process(folder)
    process.box.left_behind()
    if not before:
        process.look()
        gone(folder)
        process.standing = {"step": 2}
    taken(folder)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            process.clock.now += 1
            process.box.look()
    (record,) = caplog.records
    assert record.message.startswith(f"OTEL_TORCH_MODULES_BLACKBOX: {folder}/rank-2.json cannot be")
    assert record.message.endswith("; it is tried again")
    folder.unlink()
    process.clock.now += 1
    assert process.look() is not None


def test_it_is_written_again_where_it_was_taken_away(folder: Path) -> None:
    process = Process(folder)
    process.box.left_behind()
    process.look()
    gone(folder)
    process.clock.now += 1
    process.standing = {"step": 2}
    assert process.look() is not None


def test_a_slow_folder_is_looked_at_so_much_less_often(folder: Path) -> None:
    process = Process(folder)

    def slow() -> dict[str, Any]:
        process.clock.now += 0.5
        return {"step": process.clock.now}

    process.box = BlackBox(folder, lambda: 2, slow, process.clock)
    process.box.left_behind()
    written = set()
    for _ in range(100):
        said = process.look()
        assert said is not None
        written.add(said["step"])
        process.clock.now += 0.25
    assert len(written) == 3  # in 25 s


def test_a_forked_child_has_none(folder: Path) -> None:
    process = Process(folder)
    process.box.left_behind()
    written = process.look()
    process.box.forget()
    assert process.box.left_behind() is None
    process.clock.now += 5
    process.standing = {"step": 2}
    assert process.look() == written
    process.box.close()
    assert process.file.exists()
