"""The worker: order, bounds, errors, stopping and forking."""

from __future__ import annotations

import logging
import os
import threading
import time
from asyncio import CancelledError
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from queue import SimpleQueue
from threading import Semaphore
from typing import Any

import pytest

from otel_torch_modules._engine.worker import Worker
from otel_torch_modules._records import Record
from tests.support.workers import make_worker, record

SOON = 30.0  # s; reached only when something hangs


@pytest.fixture
def worker_of() -> Iterator[Callable[..., Worker]]:
    made: list[Worker] = []

    def make(handle: Callable[[Record], None], **given: Any) -> Worker:
        made.append(make_worker(handle, **given))
        return made[-1]

    yield make
    for worker in made:
        worker.stop(SOON)


def worker_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name == "otel-torch-modules"]


def test_records_are_handled_in_order_on_one_daemon_thread(
    worker_of: Callable[..., Worker],
) -> None:
    handled: list[tuple[int | None, str, bool]] = []

    def handle(item: Record) -> None:
        thread = threading.current_thread()
        handled.append((item.index, thread.name, thread.daemon))

    worker = worker_of(handle)
    assert worker_threads() == []
    assert [worker.put(record(index)) for index in range(3)] == [True, True, True]
    assert worker.flush(SOON)
    assert handled == [(index, "otel-torch-modules", True) for index in range(3)]
    assert worker.stop(SOON)
    assert worker_threads() == []


def test_what_is_finished_is_handled_before_the_look_at_where_the_program_stands(
    worker_of: Callable[..., Worker],
) -> None:
    finished = [record(0)]
    done: list[object] = []

    def hand_over() -> None:
        if finished:
            worker.put(finished.pop())

    worker = worker_of(
        lambda item: done.append(item.index), hand_over=hand_over, look=lambda: done.append("look")
    )
    worker.start()
    assert worker.flush(SOON)
    assert done[:2] == [0, "look"]


def test_what_the_queue_cannot_hold_is_dropped_and_counted(
    worker_of: Callable[..., Worker], caplog: pytest.LogCaptureFixture
) -> None:
    busy, go_on = threading.Event(), threading.Event()
    handled: list[int | None] = []

    def handle(item: Record) -> None:
        busy.set()
        assert go_on.wait(SOON)
        handled.append(item.index)

    worker = worker_of(handle, capacity=2)
    worker.put(record(0))
    assert busy.wait(SOON)
    assert [worker.put(record(index)) for index in range(1, 5)] == [True, True, False, False]
    assert not worker.flush(0.0)
    go_on.set()
    assert worker.stop(SOON)
    assert handled == [0, 1, 2]
    assert worker.outcomes() == {"": 3, "queue_full": 2}
    assert [(r.levelno, r.getMessage()) for r in caplog.records] == [
        (
            logging.WARNING,
            "0 MB of steps wait to be sent: evaluations are left out from here on, then the modules of "
            "steps, then whole steps; all are counted",
        ),
    ]


def test_what_may_be_the_last_is_exported_at_once(worker_of: Callable[..., Worker]) -> None:
    handled: list[int | None] = []
    exported: SimpleQueue[list[int | None]] = SimpleQueue()
    worker = worker_of(
        lambda item: handled.append(item.index),
        export=lambda: exported.put(list(handled)),
        interval_s=SOON,
    )
    worker.put(record(0))
    worker.hurry(object())
    assert exported.get(timeout=SOON) == [0]


def test_a_flush_that_was_given_up_is_not_gone_on_with(worker_of: Callable[..., Worker]) -> None:
    exports, looks, well = count(), Semaphore(0), threading.Event()
    worker = worker_of(
        lambda item: None,
        export=lambda: well.is_set() or next(exports) < 0,
        idle=looks.release,
        interval_s=0.001,
    )
    worker.put(record(0))
    assert not worker.flush(0.0)
    for _ in range(2):  # it may have been at it
        assert looks.acquire(timeout=SOON)
    before = next(exports)
    for _ in range(5):
        assert looks.acquire(timeout=SOON)
    assert next(exports) == before + 1
    well.set()


def test_the_next_step_that_is_taken_says_how_many_were_dropped(
    worker_of: Callable[..., Worker],
) -> None:
    """An evaluation does not; each dropped record is said once."""
    begun, turn = threading.Semaphore(0), threading.Semaphore(0)
    said: list[tuple[str, int | None, int]] = []

    def handle(item: Record) -> None:
        begun.release()
        assert turn.acquire(timeout=SOON)
        said.append((item.kind, item.index, item.dropped_before))

    def make_room() -> None:
        turn.release()
        assert begun.acquire(timeout=SOON)  # the next one has been fetched

    worker = worker_of(handle, capacity=1)
    worker.put(record(0))
    assert begun.acquire(timeout=SOON)
    assert [worker.put(record(index)) for index in range(1, 4)] == [True, False, False]
    make_room()
    evaluation = Record("eval", None, 0, 0)
    assert [worker.put(evaluation), worker.put(record(4))] == [True, True]  # in its place
    make_room()
    assert [worker.put(record(5)), worker.put(Record("eval", None, 0, 0))] == [True, False]
    make_room()
    assert worker.put(record(6))
    make_room()
    assert worker.put(record(7))
    turn.release(10)
    assert worker.stop(SOON)
    assert said == [
        ("step", 0, 0),
        ("step", 1, 0),
        ("step", 4, 2),
        ("step", 5, 1),
        ("step", 6, 1),
        ("step", 7, 0),
    ]
    assert worker.outcomes() == {"": 6, "queue_full": 4}


def test_an_error_is_logged_once_with_its_traceback_and_the_thread_goes_on(
    worker_of: Callable[..., Worker], caplog: pytest.LogCaptureFixture
) -> None:
    handled: list[int | None] = []

    def handle(item: Record) -> None:
        if item.index in (0, 2):
            raise ValueError("no")
        handled.append(item.index)

    worker = worker_of(handle)
    for index in range(4):
        worker.put(record(index))
    assert worker.flush(SOON)
    assert handled == [1, 3]
    assert [(r.levelno, bool(r.exc_text)) for r in caplog.records] == [(logging.ERROR, True)]
    assert worker.outcomes() == {"": 2, "queue_full": 0, "ValueError": 2}


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, CancelledError, GeneratorExit])
@pytest.mark.parametrize("where", ["handle", "hand_over", "look", "idle", "export"])
def test_whatever_is_raised_on_the_thread_costs_what_it_strikes_alone(
    worker_of: Callable[..., Worker],
    caplog: pytest.LogCaptureFixture,
    error: type[BaseException],
    where: str,
) -> None:
    handled: list[int | None] = []
    left = [where]

    def strike(here: str) -> None:
        if left == [here]:
            left.pop()
            raise error

    def handle(item: Record) -> None:
        strike("handle")
        handled.append(item.index)

    parts = ("hand_over", "look", "idle", "export")
    worker = worker_of(handle, **{part: partial(strike, part) for part in parts})
    for index in range(3):
        worker.put(record(index))
    assert worker.flush(SOON)
    assert left == []
    assert handled == ([1, 2] if where == "handle" else [0, 1, 2])
    assert worker_threads() == ["otel-torch-modules"]
    assert [(r.levelno, bool(r.exc_text)) for r in caplog.records] == [(logging.ERROR, True)]


@pytest.mark.parametrize("ends", ["put", "flush", "stop"])
def test_a_thread_that_is_gone_is_replaced_and_waited_for_by_nobody(
    worker_of: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    """What another thread sets in it may strike where nothing takes it."""
    handled: list[int | None] = []
    worker = worker_of(lambda item: handled.append(item.index), interval_s=SOON)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)

    def struck(*_: object) -> None:
        raise SystemExit

    with monkeypatch.context() as broken:
        broken.setattr(worker, "_guarded", struck)
        worker.put(record(0))
        for thread in threading.enumerate():
            if thread.name == "otel-torch-modules":
                thread.join(SOON)
    assert worker_threads() == []
    if ends == "put":
        worker.put(record(1))
        assert worker_threads() == ["otel-torch-modules"]
    assert worker.stop(SOON) if ends == "stop" else worker.flush(SOON)
    assert handled == [0, 1][: len(handled)] != []
    assert len(handled) == 1 + (ends == "put")


def test_small_records_wait_for_others_and_large_ones_do_not(
    worker_of: Callable[..., Worker],
) -> None:
    handled: list[int | None] = []
    done = threading.Event()

    def handle(item: Record) -> None:
        handled.append(item.index)
        if item.index in (31, 33):
            done.set()

    worker = worker_of(handle, capacity=10_000, interval_s=10 * SOON)
    for index in range(31):
        assert worker.put(record(index))
    assert (handled, len(worker.queue)) == ([], 31)
    assert worker.put(record(31))
    assert done.wait(SOON)
    assert handled == list(range(32))

    done.clear()
    assert worker.put(record(32))
    large = record(33)
    large.log.extend([None] * 8_192)
    assert worker.put(large)
    assert done.wait(SOON)
    assert handled == list(range(34))


def test_a_small_record_waits_no_longer_than_the_interval(worker_of: Callable[..., Worker]) -> None:
    done = threading.Event()
    worker = worker_of(lambda item: done.set(), interval_s=0.001)
    assert worker.put(record(0))
    assert done.wait(SOON)


def test_idle_is_called_after_each_record_and_while_nothing_comes(
    worker_of: Callable[..., Worker],
) -> None:
    calls: list[str] = []
    idle_again = threading.Event()

    def idle() -> None:
        calls.append("idle")
        if "record 0" in calls and calls[-3:] == ["idle"] * 3:
            idle_again.set()

    worker = worker_of(
        lambda item: calls.append(f"record {item.index}"), idle=idle, interval_s=0.001
    )
    worker.put(record(0))
    assert idle_again.wait(SOON)
    first = calls.index("record 0")  # nothing may have come for a while before it
    assert calls[first : first + 4] == ["record 0", "idle", "idle", "idle"]


def test_stop_handles_what_was_put_then_closes_then_takes_nothing_more(
    worker_of: Callable[..., Worker],
) -> None:
    calls: list[Any] = []
    worker = worker_of(lambda item: calls.append(item.index), close=lambda: calls.append("close"))
    worker.put(record(0))
    worker.put(record(1))
    assert worker.stop(SOON)
    assert worker.stop(SOON)
    assert not worker.put(record(2))
    assert calls == [0, 1, "close"]


def test_flush_exports_what_was_put_before_it(worker_of: Callable[..., Worker]) -> None:
    calls: list[Any] = []
    worker = worker_of(lambda item: calls.append(item.index), export=lambda: calls.append("export"))
    worker.put(record(0))
    worker.put(record(1))
    assert worker.flush(SOON)
    assert calls == [0, 1, "export"]


def test_stop_gives_up_on_a_handler_that_does_not_return(worker_of: Callable[..., Worker]) -> None:
    go_on = threading.Event()
    worker = worker_of(lambda item: go_on.wait(SOON))
    worker.put(record(0))
    assert not worker.stop(0.01)
    go_on.set()


def test_stop_waits_for_as_long_as_something_is_done(worker_of: Callable[..., Worker]) -> None:
    """Each record takes longer than the time-out would leave to the next one."""
    handled: list[int | None] = []

    def handle(item: Record) -> None:
        time.sleep(0.15)
        handled.append(item.index)

    worker = worker_of(handle)
    for index in range(8):
        worker.put(record(index))
    assert worker.stop(1.0)
    assert handled == list(range(8))


def test_records_wait_where_the_sender_takes_none_and_go_on_when_it_does(
    worker_of: Callable[..., Worker],
) -> None:
    open_again = threading.Event()
    handled: list[int | None] = []
    worker = worker_of(
        lambda item: handled.append(item.index), ready=open_again.is_set, interval_s=0.001
    )
    for index in range(40):
        worker.put(record(index))
    assert not worker.flush(0.1)
    assert handled == []
    open_again.set()
    assert worker.flush(SOON)
    assert handled == list(range(40))


def test_a_flush_ends_when_what_had_to_be_tried_again_was_sent(
    worker_of: Callable[..., Worker],
) -> None:
    answers = iter([False, False, True])
    worker = worker_of(lambda item: None, export=lambda: next(answers))
    worker.put(record(0))
    assert worker.flush(SOON)
    assert list(answers) == []
    worker._sender.export = lambda: True


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_sends_its_own_records_and_not_its_parents(
    worker_of: Callable[..., Worker],
) -> None:
    busy, go_on = threading.Event(), threading.Event()
    reading, writing = os.pipe()

    def handle(item: Record) -> None:
        os.write(
            writing, f"{item.index} by {'child' if os.getpid() != parent else 'parent'};".encode()
        )
        if item.index == 0:
            busy.set()
            go_on.wait(SOON)

    parent = os.getpid()
    worker = worker_of(handle)
    worker.put(record(0))
    worker.put(record(1))
    assert busy.wait(SOON)
    child = os.fork()
    if child == 0:  # whatever happens here must end here
        try:
            in_time = worker.flush(SOON) and worker.put(record(2)) and worker.stop(SOON)
            os._exit(0 if in_time else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    go_on.set()
    assert worker.stop(SOON)
    os.close(writing)
    with os.fdopen(reading) as lines:
        assert lines.read() == "0 by parent;2 by child;1 by parent;"
