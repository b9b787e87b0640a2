"""What stands in the holes of a specimen occurs nowhere else in it, and takes one call of the operating system."""

from __future__ import annotations

import pytest

from otel_torch_modules._emission.otlp.specimen import Specimen
from otel_torch_modules._events import Varying
from otel_torch_modules._spans.layout import Prototype


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_specimen_asks_the_system_once(count: int, drawings: list[int]) -> None:
    keys = tuple([Varying(f"key{number}", int) for number in range(count)])
    specimen = Specimen(Prototype("forward", "", 3, {}, keys))
    specimen.add_link()
    assert len(drawings) == 1
    span = specimen.span
    assert span.parent is not None
    assert span.link is not None
    drawn = [span.trace.trace_id, span.span_id, span.parent.span_id, span.link.span_id]
    drawn += [span.start, span.end, *span.values]
    assert len(set(drawn)) == 6 + count
