"""What the device's allocator did in a step: a slow one may have waited for it to free what it had cached.

Its counts are read, never reset: the program reads them too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from otel_torch_modules._recording.torch_private import device_memory_stats
from otel_torch_modules._records import (
    MEMORY_ALLOC_RETRIES,
    MEMORY_ALLOCATED,
    MEMORY_DEVICE_ALLOCS,
    MEMORY_OOMS,
    MEMORY_PEAK,
    MEMORY_RESERVED,
    Varying,
)

_COUNTS: Final = {
    "num_alloc_retries": MEMORY_ALLOC_RETRIES,
    "num_device_alloc": MEMORY_DEVICE_ALLOCS,
    "num_ooms": MEMORY_OOMS,
}

_Stats = Mapping[str, Any]


class DeviceMemory:
    """Bytes as they are when the step ends, and how often what has a count happened in it, where it did."""

    def read(self) -> _Stats | None:
        """See `Measure`; None where this process has used no device."""
        return device_memory_stats()

    def since(self, before: _Stats | None, after: _Stats | None) -> Mapping[Varying, Any]:
        """See `Measure`."""
        if not after:
            return {}
        allocated = after["allocated_bytes"]["all"]
        said: dict[Varying, Any] = {
            MEMORY_ALLOCATED: allocated["current"],
            MEMORY_PEAK: allocated["peak"],
            MEMORY_RESERVED: after["reserved_bytes"]["all"]["current"],
        }
        for name, attribute in _COUNTS.items():
            if happened := after[name] - (before[name] if before else 0):
                said[attribute] = happened
        return said
