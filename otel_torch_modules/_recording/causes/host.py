"""What the host gave the thread that trains: how long that ran, how often it was put aside, what it had to wait for."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from time import thread_time_ns
from typing import Any, NamedTuple

from otel_torch_modules._events import Varying
from otel_torch_modules._records import STEP_CPU_TIME, STEP_MAJOR_FAULTS, STEP_SWITCHES


class _Use(NamedTuple):
    cpu_time: int  # ns
    switches: int = 0  # to other work while it could have gone on
    major_faults: int = 0  # pages that were read from a disk


if sys.platform == "linux":
    from resource import RUSAGE_THREAD, getrusage


class Host:
    """Processor time always; switches and faults, which Linux alone counts for a thread, where there were any."""

    if sys.platform == "linux":

        def read(self) -> _Use:
            """See `Measure`."""
            use = getrusage(RUSAGE_THREAD)
            return _Use(thread_time_ns(), use.ru_nivcsw, use.ru_majflt)

    else:

        def read(self) -> _Use:
            """See `Measure`."""
            return _Use(thread_time_ns())

    def since(self, before: _Use, after: _Use) -> Mapping[Varying, Any]:
        """See `Measure`."""
        said: dict[Varying, Any] = {STEP_CPU_TIME: (after.cpu_time - before.cpu_time) / 1e9}
        if switches := after.switches - before.switches:
            said[STEP_SWITCHES] = switches
        if faults := after.major_faults - before.major_faults:
            said[STEP_MAJOR_FAULTS] = faults
        return said
