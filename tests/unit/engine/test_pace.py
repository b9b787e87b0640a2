"""How long steps take, from now and then a look at which is open."""

from __future__ import annotations

import pytest

from otel_torch_modules._engine.pace import Pace

S = 1_000_000_000


@pytest.mark.parametrize(
    ("looks", "seconds"),
    [
        ([], None),
        ([(0, 0)], None),
        ([(0, 0), (0, 0)], None),
        ([(0, 0), (4, 2 * S)], 0.5),
        ([(0, 0), (1, 60 * S), (2, 61 * S), (3, 62 * S), (3, 62 * S)], 1.0),  # the first compiled
        ([(0, 0), (1, S), (2, 2 * S), (3, 900 * S), (4, 901 * S)], 1.0),  # an evaluation
        ([(7, 0), (9, 2 * S), (0, 5 * S)], None),  # it counts anew
        ([(7, 0), (9, 2 * S), (0, 5 * S), (1, 7 * S)], 2.0),
        (
            [(step, step * S) for step in range(9)]
            + [(8 + n, (8 + 2 * n) * S) for n in range(1, 9)],
            2.0,
        ),
    ],
)
def test_the_usual_time_of_a_step(looks: list[tuple[int, int]], seconds: float | None) -> None:
    pace = Pace()
    for step, began in looks:
        pace.note(step, began)
    assert pace.seconds_per_step == seconds
