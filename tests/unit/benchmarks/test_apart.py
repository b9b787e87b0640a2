"""A comparison in a process of its own."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks import apart as apart_module
from benchmarks.apart import Apart
from benchmarks.collector import ProgramMissingError
from benchmarks.enough import Enough
from benchmarks.figures import Figure, LeftOut, Row, exact


def in_turns(enough: Enough) -> Sequence[Row]:
    """Have three turns, and say how many rounds there were and in what process."""
    taken = 0

    def rows() -> list[Row]:
        return [Row("", 1, "x", Figure(1, 0.8, 1))]

    for _ in enough.rounds(rows):
        taken += 1
    child = multiprocessing.parent_process() is not None
    return [Row(f"{os.getpid() != TESTS} {child}", 1, "rounds", exact(taken))]


TESTS = os.getpid()
FOR_EVER = 1e6


def test_it_stands_still_until_it_may_go_on_and_then_says_what_it_has_found() -> None:
    apart = Apart("part: in turns", in_turns, Enough(0.1, math.inf))
    apart.begin(0, at_most=FOR_EVER)
    assert (apart.vague, apart.is_over) == (pytest.approx((2, 2 * 8 / 5)), False)
    apart.go_on(1e-9)
    assert (apart.vague, apart.is_over) == (pytest.approx((2, 2 * 8 / 6)), False)
    apart.end()
    assert apart.rows == [Row("True False", 1, "rounds", exact(6))]


def test_one_that_needs_a_program_that_is_missing_is_left_out() -> None:
    def needs(enough: Enough) -> Sequence[Row]:
        raise ProgramMissingError("no such program")

    apart = Apart("part: needs", needs, Enough(0.1, math.inf))
    apart.begin(0, at_most=FOR_EVER)
    assert apart.rows == [LeftOut("part: needs", "no such program")]


def test_one_that_has_had_no_turn_when_the_time_is_over_says_so() -> None:
    apart = Apart("part: late", in_turns, Enough(0.1, math.inf))
    apart.end()
    assert apart.rows == [LeftOut("part: late", "there was no time left for it")]


def test_one_that_has_not_done_its_first_turn_by_then_is_ended_with_what_it_has_opened(
    tmp_path: Path,
) -> None:
    opened, closed = tmp_path / "opened", tmp_path / "closed"
    os.mkfifo(opened)

    def never(enough: Enough) -> Sequence[Row]:
        try:
            opened.open("w").close()
            signal.pause()
        finally:
            closed.touch()
        return []

    apart = Apart("part: never", never, Enough(0.1, math.inf))
    reader = os.open(opened, os.O_RDONLY | os.O_NONBLOCK)
    apart.begin(0, at_most=5)  # it is to have opened something by then
    os.close(reader)
    assert apart.rows == [LeftOut("part: never", "there was no time left for it")]
    assert closed.exists()


def test_one_that_loses_an_interrupt_is_interrupted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart_module, "_ENDS_WITHIN_S", 0.2)
    opened = tmp_path / "opened"
    os.mkfifo(opened)

    def lose_one(number: int, _: object) -> None:
        signal.signal(number, signal.default_int_handler)

    def never(enough: Enough) -> Sequence[Row]:
        signal.signal(signal.SIGINT, lose_one)
        opened.open("w").close()
        while True:
            signal.pause()

    apart = Apart("part: never", never, Enough(0.1, math.inf))
    reader = os.open(opened, os.O_RDONLY | os.O_NONBLOCK)
    apart.begin(0, at_most=0.5)
    os.close(reader)
    assert apart.rows == [LeftOut("part: never", "there was no time left for it")]


def test_one_that_fails_costs_its_own_rows_and_is_no_silent_loss(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def fails(enough: Enough) -> Sequence[Row]:
        raise ValueError("what went wrong")

    apart = Apart("part: fails", fails, Enough(0.1, math.inf))
    apart.begin(0, at_most=FOR_EVER)
    assert apart.rows == [
        LeftOut("part: fails", "its process has ended with an error", failed=True)
    ]
    assert "ValueError: what went wrong" in capfd.readouterr().err
