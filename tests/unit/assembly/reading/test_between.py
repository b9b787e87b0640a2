"""Stretches of a step with none of its phases."""

from __future__ import annotations

import pytest

from otel_torch_modules._assembly.reading import between
from otel_torch_modules._spans.span import Span, Trace

MS = 1_000_000


@pytest.mark.parametrize(
    ("length", "phases", "found"),
    [
        (2000, [(0, 2000)], []),
        (2000, [(0, 500), (509, 1000), (1010, 2000)], [(1000, 1010)]),  # half a hundredth
        (2000, [(20, 500), (500, 1980)], [(0, 20), (1980, 2000)]),  # at both ends
        (2000, [(0, 1000), (300, 400), (1000, 1500)], [(1500, 2000)]),  # one inside another
        (20, [(0, 10), (11, 20)], [(10, 11)]),  # a millisecond
        (20, [(0, 9), (9.9, 20)], []),
        (5, [], [(0, 5)]),
    ],
)
def test_has_a_span_where_it_is_long(
    monkeypatch: pytest.MonkeyPatch,
    length: int,
    phases: list[tuple[float, float]],
    found: list[tuple[int, int]],
) -> None:
    monkeypatch.setattr(between, "SHORTEST", MS)
    above = Span(Trace(1, 0, 0, None, None), None, "train.step", "step", 0, 0, length * MS, {})
    spans = between.between(above, [(int(start * MS), int(end * MS)) for start, end in phases])
    assert [(span.start // MS, span.end // MS) for span in spans] == found
    assert {(span.name, span.phase, span.kind) for span in spans} <= {("between", "between", 0)}
    assert all(span.parent is above for span in spans)
    assert list(above.children) == []
