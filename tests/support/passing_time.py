"""What time it is by the clock of spans, and a clock of which a test says when time passes."""

from __future__ import annotations

import sys
from time import perf_counter_ns

import pytest

import otel_torch_modules._tracing  # noqa: F401 - with it comes all that looks at the clock
from otel_torch_modules import _recording
from otel_torch_modules._recording.wall_clock import clock_offset

_MS = 1_000_000


def since_epoch() -> int:
    """Return the time (ns) as spans have it."""
    return perf_counter_ns() + clock_offset()


class Clock:
    """Stands for `time.perf_counter_ns`: then what a span lasts is known to the nanosecond."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.time = 10**12
        for module in list(sys.modules.values()):
            if (
                module.__name__.startswith(_recording.__name__)
                and getattr(module, "now", None) is perf_counter_ns
            ):
                monkeypatch.setattr(module, "now", lambda: self.time)

    def sleep(self, milliseconds: float) -> None:
        """Let time pass."""
        self.time += int(milliseconds * _MS)
