"""Which threads are told of, and when: with a clock that is set by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_torch_modules._engine.watch import Watch
from tests.support.hand_set_clock import HandSetClock

TIMEOUT_S = 60.0


@pytest.fixture
def clock() -> HandSetClock:
    return HandSetClock()


def look_on(
    watch: Watch, clock: HandSetClock, state: object, seconds: float, every: float = 0.5
) -> list[float]:
    """Look for so long at a thread that stays in `state`; return when it was told of."""
    told = []
    end = clock.now + seconds
    while clock.now < end:
        clock.now += every
        for wait in watch.look({1: state}).due:
            wait.said += 1
            told.append(wait.seconds(clock.now))
    return told


def test_a_wait_is_told_of_at_doubling_times(clock: HandSetClock) -> None:
    watch = Watch(TIMEOUT_S, clock)
    watch.look({1: "stands"})
    assert look_on(watch, clock, "stands", 1_000) == [60, 120, 240, 480, 960]


def test_progress_begins_anew_and_ends_what_was_told(clock: HandSetClock) -> None:
    watch = Watch(TIMEOUT_S, clock)
    watch.look({1: "a"})
    assert look_on(watch, clock, "a", 100) == [60]
    clock.now += 0.5
    looked = watch.look({1: "b"})
    assert [wait.seconds(clock.now + 1_000) for wait in looked.over] == [100.5]
    assert look_on(watch, clock, "b", 59) == []
    assert watch.look({1: "c"}).over == []
    assert look_on(watch, clock, "c", 61) == [60]


def test_threads_are_told_apart(clock: HandSetClock) -> None:
    watch = Watch(TIMEOUT_S, clock)
    told = []
    for second in range(100):
        clock.now += 1
        told += [
            (wait.thread, second)
            for wait in watch.look({1: "stands", 2: second // 30, 3: second}).due
        ]
    assert told == [(1, 60)]


@pytest.mark.parametrize("gap", [61.0, 3_600.0, 1e6])
def test_time_in_which_the_process_did_not_run_is_nobodys_wait(
    clock: HandSetClock, gap: float
) -> None:
    watch = Watch(TIMEOUT_S, clock)
    watch.look({1: "stopped"})
    assert look_on(watch, clock, "stopped", 10) == []
    clock.now += gap
    assert watch.look({1: "stopped"}).due == []
    assert look_on(watch, clock, "stopped", 5) == []
    assert watch.look({1: "runs again"}) == ([], [])


@given(
    st.lists(st.tuples(st.floats(0.01, 20), st.booleans()), max_size=60),
    st.sampled_from([1, 5, 60]),
)
def test_whoever_gets_on_in_time_is_never_told_of(
    looks: list[tuple[float, bool]], timeout_s: float
) -> None:
    clock = HandSetClock()
    watch = Watch(timeout_s, clock)
    state, since = 0, 0.0
    watch.look({1: state})
    for gap, gets_on in looks:
        clock.now += gap
        if gets_on:
            state, since = state + 1, clock.now
        due = watch.look({1: state}).due
        assert not due or clock.now - since >= timeout_s


def test_a_thread_that_is_gone_is_forgotten(clock: HandSetClock) -> None:
    watch = Watch(TIMEOUT_S, clock)
    watch.look({1: "a"})
    clock.now = 59
    assert watch.look({}) == ([], [])
    clock.now = 61
    assert watch.look({1: "a"}) == ([], [])
