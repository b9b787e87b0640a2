"""How long a record waits for the device, which does later what the step has put on its streams.

Nobody waits on the device: it is asked now and then, and a device that hangs costs nothing but the times.
"""

from __future__ import annotations

import logging
from time import monotonic
from time import perf_counter_ns as now
from typing import Final

from otel_torch_modules._log import warn
from otel_torch_modules._records import Record, Stamps

_LOGGER = logging.getLogger(__name__)

_MOST_NS: Final = 60_000_000_000  # from the end of the step
_MOST_HURRIED_S: Final = 1.0  # where somebody waits for the worker, as at the end of the process


class DeviceWait:
    """Asked of the record that comes next."""

    def __init__(self) -> None:
        self._hurried_since: float | None = None
        self._warned = False

    def hurry(self, hurried: bool) -> None:
        """Take note of whether somebody waits for the worker."""
        if not hurried:
            self._hurried_since = None
        elif self._hurried_since is None:
            self._hurried_since = monotonic()

    def holds(self, record: Record) -> bool:
        """Return whether `record` has to wait; where that is too long it is without the device's times from now on."""
        stamps: Stamps | None = record.stamps
        if stamps is None or stamps.passed():
            return False
        hurried = self._hurried_since
        waited = now() - record.end
        if waited < _MOST_NS and (hurried is None or monotonic() - hurried < _MOST_HURRIED_S):
            return True
        stamps.lose()
        if not self._warned:
            self._warned = True
            warn(
                _LOGGER,
                "Step %s was over %.1f s ago and the device has not done it: such steps are sent without its times",
                record.index,
                waited / 1e9,
            )
        return False
