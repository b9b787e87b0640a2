"""The accelerator that is in use, its memory and its captures of graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import torch

from otel_torch_modules._interruption import is_interruption


def _accelerator_of_early_torch() -> torch.device | None:
    try:
        return torch._C._accelerator_getAccelerator()
    except RuntimeError as error:  # there is none
        if is_interruption(error):
            raise
        return None


accelerator: Final[Callable[[], torch.device | None]] = (
    _accelerator_of_early_torch
    if torch.__version__.startswith("2.6.")
    else torch._C._accelerator_getAccelerator
)
"""Return the kind of accelerator that there is; None where there is none, as far as is known now."""


def device_in_use() -> torch.device | None:
    """Return the device of the accelerator that is current in this thread; None where this process has used none."""
    kind = accelerator()
    if kind is None:
        return None
    module = getattr(torch, kind.type, None)
    if not getattr(module, "is_initialized", bool)():  # what asked on would begin to use it
        return None
    return torch.device(kind.type, torch._C._accelerator_getDeviceIndex())


def turn_to_device(device: torch.device) -> None:
    """Make `device` current in this thread: else CUDA may begin to use another one where something is asked of it."""
    if torch._C._accelerator_getDeviceIndex() != device.index:
        torch._C._accelerator_setDeviceIndex(device.index)


def device_memory_stats(device: torch.device) -> Mapping[str, Any] | None:
    """Return what the allocator of `device`, which is current, counts; None where that cannot be known.

    Without the flattening and the sorting of ``torch.accelerator.memory_stats()``, which take seven times as long.
    Before torch 2.9 CUDA alone is asked.
    """
    stats = getattr(torch._C, "_accelerator_getDeviceStats", None)
    if stats is None:
        return torch.cuda.memory_stats_as_nested_dict() if device.type == "cuda" else None
    found: Mapping[str, Any] = stats(device.index)
    return found


def stream_captures(device: torch.device) -> Callable[[], bool]:
    """Return what says whether the stream that is current on `device` captures a graph.

    Before torch 2.13 CUDA alone is asked; of another device it is not known.
    """
    if device.type == "cuda":
        return torch.cuda.is_current_stream_capturing
    if not hasattr(torch.Stream, "is_capturing"):
        return bool
    return lambda: torch.accelerator.current_stream().is_capturing()


def graph_classes() -> list[Any]:
    """Return the classes whose ``capture_begin`` and ``capture_end`` are around all captures that torch makes."""
    places = ((torch.cuda, "CUDAGraph"), (torch.xpu, "XPUGraph"), (torch.accelerator, "Graph"))
    return [vars(module)[name] for module, name in places if name in vars(module)]
