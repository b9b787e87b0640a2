"""What is taken of torch for `devices.py` does what is said of it: a version that lacks a name says which."""

from __future__ import annotations

import torch

from otel_torch_modules._recording.torch_private.devices import (
    accelerator,
    device_in_use,
    device_memory_stats,
    graph_classes,
    stream_captures,
    turn_to_device,
)


def test_accelerator_and_device_in_use_and_device_memory_stats() -> None:
    kind, device = accelerator(), device_in_use()
    assert device is None or (kind is not None and device.type == kind.type)
    assert device is None or device_memory_stats(device)  # most often none is used


def test_turn_to_device_and_stream_captures() -> None:
    device = device_in_use()
    if device is not None:
        turn_to_device(device)
        assert torch.accelerator.current_device_index() == device.index
        assert stream_captures(device)() is False
    assert callable(stream_captures(torch.device("cuda")))


def test_graph_classes() -> None:
    found = graph_classes()
    assert torch.cuda.CUDAGraph in found
    assert all(callable(kind.capture_begin) and callable(kind.capture_end) for kind in found)
