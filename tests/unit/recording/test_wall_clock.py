"""One clock's place on the other changes by nothing, or by as much as matters."""

from __future__ import annotations

from time import perf_counter_ns, time_ns

import pytest

from otel_torch_modules._recording import wall_clock
from otel_torch_modules._recording.wall_clock import clock_offset

PLACE = 1_700_000_000 * 10**9


class TwoClocks:
    """Each goes on by `takes` when it is looked at; the world's is at `offset` on the other one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.time, self.takes, self.offset = 0, 100, PLACE
        monkeypatch.setattr(wall_clock, "perf_counter_ns", self.look)
        monkeypatch.setattr(wall_clock, "time_ns", lambda: self.look() + self.offset)
        monkeypatch.setattr(wall_clock, "_offset", PLACE)

    def look(self) -> int:
        self.time += self.takes
        return self.time


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch, the_worlds_clock_is_not_set: None) -> TwoClocks:
    return TwoClocks(monkeypatch)


def test_it_stays_while_it_is_right(clocks: TwoClocks) -> None:
    for drift in (0, 10_000, 50_000, -50_000, 20_000):
        clocks.offset = PLACE + drift
        assert clock_offset() == PLACE


@pytest.mark.parametrize("set_by", [50_001, -50_001, 3_600 * 10**9, -3_600 * 10**9])
def test_it_follows_a_clock_that_is_set(clocks: TwoClocks, set_by: int) -> None:
    clocks.offset = PLACE + set_by
    assert clock_offset() == PLACE + set_by
    clocks.offset += 10_000
    assert clock_offset() == PLACE + set_by


def test_it_stays_where_the_machine_had_other_work_between_two_looks(clocks: TwoClocks) -> None:
    clocks.offset, clocks.takes = PLACE + 10**9, 25_000
    assert clock_offset() == PLACE
    clocks.takes = 100
    assert clock_offset() == PLACE + 10**9


def test_it_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wall_clock, "time_ns", time_ns)
    errors = []
    for _ in range(100):
        before = perf_counter_ns()
        wall = time_ns()
        errors.append(
            max(before + clock_offset() - wall, wall - perf_counter_ns() - clock_offset())
        )
    assert min(errors) < 1_000_000  # whoever is interrupted between two readings is further off
