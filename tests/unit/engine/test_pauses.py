"""Long work in slices: all of it, in order, with a pause between two of them."""

from __future__ import annotations

import threading

import pytest

from otel_torch_modules._engine.pauses import slices
from tests.support.switching import switching_after


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, []), (1, [[0]]), (3, [[0, 1, 2]]), (7, [[0, 1, 2], [3, 4, 5], [6]])],
)
def test_nothing_is_left_out(count: int, expected: list[list[int]]) -> None:
    assert list(slices(list(range(count)), 3)) == expected


def test_a_thread_that_waits_for_the_interpreter_lock_goes_on_between_two_slices() -> None:
    gate = threading.Lock()
    gate.acquire()
    seen: list[str] = []

    def train() -> None:
        with gate:
            seen.append("trained")

    thread = threading.Thread(target=train)
    thread.start()
    with switching_after(60):  # the lock is not taken from a thread that does not give it up
        gate.release()
        for _ in slices([0] * 1_000, 1):
            pass
        trained = list(seen)
    thread.join()
    assert trained == ["trained"]
