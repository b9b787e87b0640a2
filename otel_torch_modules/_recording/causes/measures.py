"""What is measured of a step as a whole: read where it ends, and where one begins that begins where none ended.

A step that follows straight on another begins with what was read at that one's end, so there is one reading a step.
What follows from it is computed on the worker's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from threading import get_ident
from typing import Any, Protocol

from otel_torch_modules._events import Varying
from otel_torch_modules._records import Record

_NEVER = -1  # no step begins there


class Measure(Protocol):
    """Counts that go on for as long as the process, of the thread that reads them."""

    @property
    def read(self) -> Callable[[], Any]:
        """Returns how they stand."""

    def since(self, before: Any, after: Any) -> Mapping[Varying, Any]:
        """Return what is said of a step, given how they stood when it began and when it ended."""


class Measures:
    """Gives each step what was measured of it. Called on the thread that trains.

    Args:
        measures: what is read.
    """

    def __init__(self, measures: Sequence[Measure]) -> None:
        self._measures = measures
        self._reads = [measure.read for measure in measures]
        self._began: list[Any] = []
        self._thread = 0  # that read last
        self._last: list[Any] = []
        self._ended = _NEVER

    def step_begins(self, start: int) -> None:
        """Read, unless the last step ended where this one starts (ns)."""
        if not self._measures:
            return
        thread = get_ident()
        goes_on = start == self._ended and self._thread == thread
        self._began = self._last if goes_on else [read() for read in self._reads]
        self._thread, self._ended = thread, _NEVER

    def step_ends(self, record: Record, end: int) -> None:
        """Keep in `record` how they stood when it began and stand now; it may end once more."""
        if self._measures and self._thread == get_ident():  # not where autograd's thread ends it
            last = []
            for read in self._reads:
                last.append(read())
            self._last, self._ended = last, end
            record.readings = self._began, last

    def say(self, record: Record) -> None:
        """Say in `record`, which has ended, what was measured since it began."""
        if record.readings is not None:
            (began, ended), record.readings = record.readings, None
            measured = dict(record.measured)
            for measure, before, after in zip(self._measures, began, ended, strict=True):
                measured.update(measure.since(before, after))
            record.measured = measured
