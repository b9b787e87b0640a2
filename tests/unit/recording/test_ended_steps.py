"""Who has the record of a step that has ended: the loop that goes on with it, or the worker that sends it."""

from __future__ import annotations

from typing import Any

from otel_torch_modules._recording.loop.ended_steps import EndedSteps
from otel_torch_modules._records import Record


class Thread:
    """What a record's end is kept by, as `ThreadState` is."""


class Ended:
    """Steps, and what became of them."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.hurried: list[object] = []
        self.thread: Any = Thread()
        self.steps = EndedSteps(
            lambda: self.hurried.append, lambda record: self.sent.append(record.index)
        )

    def put(self, index: int) -> None:
        self.steps.put(Record("step", index, 0, 0), self.thread)


def test_what_is_taken_back_is_not_sent_and_what_is_sent_is_not_taken_back() -> None:
    ended = Ended()
    ended.put(0)
    assert ended.steps.take_back()
    ended.steps.send_all()
    assert ended.sent == []
    ended.put(0)
    ended.steps.send_all()
    assert not ended.steps.take_back()
    assert ended.sent == [0]


def test_what_ends_while_somebody_looks_whether_all_is_idle_is_left() -> None:
    ended = Ended()
    ended.put(0)

    def is_idle() -> bool:
        ended.put(1)
        return True

    ended.steps.send_idle(is_idle)
    assert ended.sent == [0]
    assert ended.steps.take_back()


def test_with_the_step_of_a_thread_that_is_gone_nobody_goes_on() -> None:
    ended = Ended()
    ended.put(0)
    ended.steps.send_idle(lambda: False)
    assert (ended.sent, ended.hurried) == ([], [])
    ended.thread = None
    assert len(ended.hurried) == 1  # in C, as the thread ends
    ended.steps.send_idle(lambda: False)
    assert ended.sent == [0]


def test_what_another_process_has_begun_is_dropped() -> None:
    ended = Ended()
    ended.put(0)
    ended.steps.clear()
    ended.steps.send_all()
    assert ended.sent == []
