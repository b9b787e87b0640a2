"""What the host gave the thread that trains: how long that ran, how often it was put aside, what it had to wait for.

What is read at the end of each step is read by functions of C.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from time import thread_time_ns
from typing import Any

from otel_torch_modules._events import Varying
from otel_torch_modules._records import STEP_CPU_TIME, STEP_MAJOR_FAULTS, STEP_SWITCHES


class ProcessorTime:
    """For how long it ran (ns)."""

    read = staticmethod(thread_time_ns)

    def since(self, before: int, after: int) -> Mapping[Varying, Any]:
        """See `Measure`."""
        return {STEP_CPU_TIME: (after - before) / 1e9}


if sys.platform == "linux":  # which alone counts for a thread
    from resource import RUSAGE_THREAD, getrusage, struct_rusage

    class Interruptions:
        """Switches to other work while it could have gone on, and pages that were read from a disk; where any were."""

        read = staticmethod(partial(getrusage, RUSAGE_THREAD))

        def since(self, before: struct_rusage, after: struct_rusage) -> Mapping[Varying, Any]:
            """See `Measure`."""
            counted = {
                STEP_SWITCHES: after.ru_nivcsw - before.ru_nivcsw,
                STEP_MAJOR_FAULTS: after.ru_majflt - before.ru_majflt,
            }
            return {name: count for name, count in counted.items() if count}

    HOST = ProcessorTime(), Interruptions()
else:
    HOST = (ProcessorTime(),)
