"""One clock's place on the other changes by nothing, or by as much as matters."""

from __future__ import annotations

from itertools import pairwise
from time import perf_counter_ns, time_ns

from otel_torch_modules._recording.wall_clock import clock_offset


def test_it_stays_while_it_is_right() -> None:
    found = [clock_offset() for _ in range(1000)]
    assert [1 for before, after in pairwise(found) if 0 < abs(after - before) <= 50_000] == []


def test_it_is_right() -> None:
    errors = []
    for _ in range(100):
        before = perf_counter_ns()
        wall = time_ns()
        errors.append(
            max(before + clock_offset() - wall, wall - perf_counter_ns() - clock_offset())
        )
    assert min(errors) < 1_000_000  # whoever is interrupted between two readings is further off
