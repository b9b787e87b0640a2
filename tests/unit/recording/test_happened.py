"""What happened beside modules comes into the log of the record in whose time it lies, where its time is."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_torch_modules._events import COLLECTION, LOOP_CALL, OPTIMIZED, OPTIMIZER, WIDTH, Stretch
from otel_torch_modules._recording.causes import happened
from otel_torch_modules._recording.causes.happened import Happened
from otel_torch_modules._records import Record

LENGTH = 100  # of a step


class Happening(NamedTuple):
    """A call of the loop's in some thread."""

    start: int
    length: int
    thread: int

    @property
    def end(self) -> int:
        """When it ended."""
        return self.start + self.length


def step(number: int) -> Record:
    """Return a step in which an optimizer of thread 0 has stepped again and again."""
    start = number * LENGTH
    record = Record("step", number, start, 0, end=start + LENGTH)
    for time in range(start, start + LENGTH, 10):
        record.log.extend((OPTIMIZER, 0, None, time, "SGD"))
        record.log.extend((OPTIMIZED, 0, None, time + 5, None))
    return record


def happenings(record: Record) -> list[tuple[int, int, int]]:
    """Return start, length and thread of what has come into the log, in its order."""
    log = record.log
    return [
        (log[place + 2], log[place + 3] - log[place + 2], log[place + 1])
        for place in range(0, len(log), WIDTH)
        if log[place] in (LOOP_CALL, COLLECTION)
    ]


@given(
    st.lists(
        st.builds(Happening, st.integers(-20, 320), st.integers(1, 120), st.integers(0, 1)),
        max_size=12,
    )
)
def test_each_comes_once_into_the_step_in_whose_time_it_lies(made: list[Happening]) -> None:
    kept = Happened(lambda: 0, lambda where: True)
    in_order = sorted(made, key=lambda one: one.end)
    for one in in_order:
        kept.add(LOOP_CALL, one.thread, one.start, one.end, "zero_grad")
    for number in range(3):
        record = step(number)
        plain = record.log.copy()
        kept.put_into(record)
        expected = [
            one
            for one in in_order
            if record.start <= one.start and one.end <= record.end and one.thread == 0
        ]
        assert happenings(record) == [tuple(one) for one in expected]
        events = list(zip(*[iter(record.log)] * WIDTH, strict=True))
        assert [event[3] for event in events] == sorted(event[3] for event in events)
        left = [slot for event in events if event[0] is not LOOP_CALL for slot in event]
        assert left == plain


def test_garbage_is_every_threads_business() -> None:
    kept = Happened(lambda: 0, lambda where: True)
    kept.add(COLLECTION, -1, 10, 20, None)
    record = step(0)
    kept.put_into(record)
    assert happenings(record) == [(10, 10, -1)]


def test_what_happens_in_an_evaluation_of_another_thread_is_that_ones() -> None:
    kept = Happened(lambda: 0, lambda where: True)
    kept.add(LOOP_CALL, 1, 10, 20, "zero_grad")
    train, evaluation = step(0), Record("eval", 0, 0, 0, end=50)
    evaluation.log = [OPTIMIZER, 1, None, 5, "SGD"]
    kept.put_into(train)
    assert happenings(train) == []
    kept.put_into(evaluation)
    assert happenings(evaluation) == [(10, 10, 1)]


def test_of_too_many_the_latest_are_kept_and_the_record_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(happened, "_MOST", 4)
    kept = Happened(lambda: 0, lambda where: True)
    for start in range(6):
        kept.add(LOOP_CALL, 0, start, start + 1, "zero_grad")
    record = step(0)
    kept.put_into(record)
    assert [start for start, _, _ in happenings(record)] == [2, 3, 4, 5]
    assert record.truncated


def evaluation(time: int, thread: int) -> Record:
    """Return a forward by itself in the thread with this code, from `time` to ten later."""
    record = Record("eval", None, time, 0, end=time + 10)
    record.log = [OPTIMIZER, thread, None, time + 1, "SGD"]
    return record


@pytest.mark.parametrize("event", [LOOP_CALL, COLLECTION])
@pytest.mark.parametrize("threads", [1, 300], ids=["one", "another_each_time"])
def test_what_lies_between_evaluations_is_not_kept_for_ever(
    event: Stretch, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(happened, "_MOST", 200)
    kept = Happened(lambda: 0, lambda where: True)
    most, truncated = 0, 0
    for request in range(300):
        record = evaluation(1000 + 20 * request, request % threads)
        kept.put_into(record)
        kept.add(event, request % threads, record.end, record.end + 5, None)
        most = max(most, len(kept.kept))
        truncated += record.truncated
    assert most < 100
    assert not truncated


def test_an_open_step_keeps_what_happens_in_it_while_others_serve() -> None:
    kept = Happened(lambda: 0, lambda where: True)
    record = step(0)
    record.end = 10_000
    kept.open_step = record
    for time in range(0, 4_000, 20):
        kept.add(LOOP_CALL, 0, time, time + 5, "zero_grad")
        kept.put_into(evaluation(time + 6, 1))
    kept.open_step = None
    kept.put_into(record)
    assert len(happenings(record)) == 200
    assert not record.truncated


def test_a_step_that_began_before_an_evaluation_has_what_lies_before_that() -> None:
    kept = Happened(lambda: 0, lambda where: True)
    kept.add(LOOP_CALL, 0, 5, 10, "zero_grad")
    kept.put_into(evaluation(20, 0))
    record = step(0)
    kept.open_step = record
    kept.put_into(record)
    assert happenings(record) == [(5, 5, 0)]


def test_an_evaluation_that_lasted_longer_says_what_it_lacks() -> None:
    kept = Happened(lambda: 0, lambda where: True)
    for time in range(0, 4_000, 20):
        kept.add(LOOP_CALL, 0, time, time + 5, "zero_grad")
        kept.put_into(evaluation(time + 6, 1))
    record = evaluation(0, 0)
    record.end = 5_000
    kept.put_into(record)
    assert record.truncated


def test_a_long_log_is_not_gone_through() -> None:
    class Log(list[object]):
        reads = 0

        def __getitem__(self, key: Any) -> Any:
            Log.reads += 1
            return super().__getitem__(key)

    record = Record("step", 0, 0, 0, end=20_000)
    record.log = Log()
    for time in range(10_000):
        record.log.extend((OPTIMIZED, 0, None, 10 + time, None))
    kept = Happened(lambda: 0, lambda where: True)
    kept.add(LOOP_CALL, 0, 1, 5, "zero_grad")  # before all of them
    kept.put_into(record)
    assert record.log[:WIDTH] == [LOOP_CALL, 0, 1, 5, "zero_grad"]
    assert Log.reads < 50
