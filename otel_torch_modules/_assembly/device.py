"""What the device says of spans: how long it took for them, and how far it was behind the program.

A span begins and ends with an event of the log, and the device's time for that is known by the time that the log has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from otel_torch_modules._records import DEVICE_DURATION, DEVICE_LAG, Varying
from otel_torch_modules._spans.span import Span

_SECOND = 1e9  # ns


def add_device_times(root: Span, times: Mapping[int, int]) -> None:
    """Give those spans of a tree that have any their own."""
    for span in root.walk():
        if span.start in times and span.end in times:
            span.say(device_values(span.start, span.end, times).items())


def device_values(start: int, end: int, times: Mapping[int, int]) -> dict[Varying, Any]:
    """Return what is said of a span.

    Args:
        start: of the span (ns).
        end: the same.
        times: of the device, by those of the log.
    """
    began, ended = times.get(start), times.get(end)
    if began is None or ended is None:
        return {DEVICE_DURATION: None, DEVICE_LAG: None}
    return {
        DEVICE_DURATION: max(ended - began, 0) / _SECOND,
        DEVICE_LAG: max(began - start, 0) / _SECOND,
    }
