"""What the device's allocator did in a step: a slow one may have waited for it to free what it had cached.

Its counts are read, never reset: the program reads them too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import torch

from otel_torch_modules._events import Varying
from otel_torch_modules._recording.torch_private.devices import (
    accelerator,
    device_in_use,
    device_memory_stats,
)
from otel_torch_modules._records import (
    MEMORY_ALLOC_RETRIES,
    MEMORY_ALLOCATED,
    MEMORY_DEVICE_ALLOCS,
    MEMORY_OOMS,
    MEMORY_PEAK,
    MEMORY_RESERVED,
)

_COUNTS: Final = {
    "num_alloc_retries": MEMORY_ALLOC_RETRIES,
    "num_device_alloc": MEMORY_DEVICE_ALLOCS,
    "num_ooms": MEMORY_OOMS,
}


class Counted(NamedTuple):
    """How the counts of one device stand."""

    device: torch.device
    stats: Mapping[str, Any]


class DeviceMemory:
    """Bytes as they are when the step ends, and how often what has a count happened in it, where it did.

    Each device has counts of its own: of a step that ends on another one than it began on, nothing is known to have
    happened.
    """

    def read(self) -> Counted | None:
        """See `Measure`; None where this process has used no device."""
        device = None if accelerator() is None else device_in_use()
        stats = None if device is None else device_memory_stats(device)
        return Counted(device, stats) if device is not None and stats else None

    def since(self, before: Counted | None, after: Counted | None) -> Mapping[Varying, Any]:
        """See `Measure`."""
        if after is None:
            return {}
        allocated = after.stats["allocated_bytes"]["all"]
        said: dict[Varying, Any] = {
            MEMORY_ALLOCATED: allocated["current"],
            MEMORY_PEAK: allocated["peak"],
            MEMORY_RESERVED: after.stats["reserved_bytes"]["all"]["current"],
        }
        if before is not None and before.device != after.device:
            return said
        for name, attribute in _COUNTS.items():
            if happened := after.stats[name] - (before.stats[name] if before else 0):
                said[attribute] = happened
        return said
