"""A receiver that takes nothing for a week is worth some lines of log, not a line for each attempt."""

from __future__ import annotations

import pytest

from otel_torch_modules._emission.otlp.reply import TAKEN, Reply
from otel_torch_modules._emission.otlp.trouble import Trouble
from tests.support.hand_set_clock import HandSetClock

LOST = Reply("400", "here answers 400 no")
AGAIN = Reply("UNAVAILABLE", "nothing answers at here", again=True)
WEEK_S = 7 * 24 * 3600


@pytest.fixture
def clock() -> HandSetClock:
    return HandSetClock()


def refused(trouble: Trouble, answer: Reply) -> None:
    """It is heard in the moment in which it was asked for."""
    trouble.begins()
    trouble.heard(answer)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_the_first_loss_is_said_at_once_and_the_others_at_doubling_intervals(
    clock: HandSetClock, caplog: pytest.LogCaptureFixture
) -> None:
    trouble = Trouble(clock)
    times = []
    for second in range(1_000):
        clock.now = second
        before = len(caplog.records)
        refused(trouble, LOST)
        if len(caplog.records) > before:
            times.append(second)
    assert times == [0, 10, 30, 70, 150, 310, 630]
    assert said(caplog)[:2] == [
        "Spans are lost: here answers 400 no",
        "Spans still are lost, 10 s later; attempts that failed: 11: here answers 400 no",
    ]
    trouble.heard(TAKEN)
    trouble.heard(TAKEN)
    assert said(caplog)[len(times) :] == [
        "Spans are sent again, 999 s later; attempts that failed: 1000"
    ]


def test_a_week_without_a_collector_is_some_lines(
    clock: HandSetClock, caplog: pytest.LogCaptureFixture
) -> None:
    trouble = Trouble(clock)
    for second in range(0, WEEK_S, 8):
        clock.now = second
        refused(trouble, AGAIN)
    assert len(caplog.records) < 20
    assert said(caplog)[0] == ("Spans wait, as many as there is room for: nothing answers at here")


def test_a_moment_without_a_collector_is_none(
    clock: HandSetClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is lost by it."""
    trouble = Trouble(clock)
    for start in (0.0, 100.0):
        for after in (0.0, 0.5, 1.5, 3.5):
            clock.now = start + after
            refused(trouble, AGAIN)
        trouble.heard(TAKEN)
    assert said(caplog) == []
    refused(trouble, AGAIN)
    trouble.heard(LOST)  # is a loss, whatever came before
    assert said(caplog) == ["Spans are lost: here answers 400 no"]


@pytest.mark.parametrize(
    ("silent_s", "lines"), [([10], 1), ([4], 0), ([4, 4], 1), ([4, 0.5], 0), ([5], 1)]
)
def test_who_waits_for_an_answer_waits_too(
    clock: HandSetClock, caplog: pytest.LogCaptureFixture, silent_s: list[float], lines: int
) -> None:
    trouble = Trouble(clock)
    clock.now = 1_000
    for seconds in silent_s:
        trouble.begins()
        clock.now += seconds
        trouble.heard(AGAIN)
    assert len(said(caplog)) == lines


def test_at_the_end_there_is_one_line_for_all_and_none_here(
    clock: HandSetClock, caplog: pytest.LogCaptureFixture
) -> None:
    trouble = Trouble(clock)
    trouble.muted = True
    trouble.heard(LOST)
    trouble.heard(TAKEN)
    assert said(caplog) == []
