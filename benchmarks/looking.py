"""What a look for stalls costs the worker, and the black box's file: ``python -m benchmarks.looking``.

The worker looks five times a second. Printed is how long one look takes while a thread stands in the innermost of
modules that are nested a dozen deep: the least, the median and the most of 200, in microseconds. The file is written
once a second, to the folder of temporary files.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter_ns
from typing import Any

import torch
from torch import Tensor, nn

from otel_torch_modules import TorchModuleInstrumentor
from otel_torch_modules._engine.black_box import BlackBox
from otel_torch_modules.testing import capture_spans

_LOOKS = 200
_DEPTH = 12


class _Nested(nn.Module):
    """A module in a module, and so on, down to one that stands until it may go on."""

    def __init__(self, depth: int, stop: threading.Barrier) -> None:
        super().__init__()
        self.stop = stop
        self.inner = nn.Linear(8, 8) if depth == 0 else _Nested(depth - 1, stop)
        self.stands = depth == 0

    def forward(self, x: Tensor) -> Tensor:
        if self.stands:
            self.stop.wait()
            self.stop.wait()
        out: Tensor = self.inner(x)
        return out


def main() -> None:
    """Measure and print."""
    stop = threading.Barrier(2)
    model = _Nested(_DEPTH, stop)
    with capture_spans():
        thread = threading.Thread(target=lambda: model(torch.ones(1, 8)).sum().backward())
        thread.start()
        stop.wait()
        tracing = TorchModuleInstrumentor()._tracing
        assert tracing is not None
        assert tracing._stalls is not None
        times = []
        for _ in range(_LOOKS):
            start = perf_counter_ns()
            tracing._stalls.look()
            times.append((perf_counter_ns() - start) / 1e3)
        written = _write_times(tracing._describe)
        stop.wait()
        thread.join()
    for what, found in (("one look", times), ("one file", written)):
        print(f"{what}: {min(found):.1f} {median(found):.1f} {max(found):.1f} µs")


def _write_times(describe: Callable[[], Mapping[str, Any] | None]) -> list[float]:
    """Return how long it takes to describe where a process stands and to write that."""
    times = []
    with TemporaryDirectory() as folder:
        for number in range(_LOOKS):
            box = BlackBox(
                Path(folder),
                lambda: 0,
                lambda number=number: {**(describe() or {}), "number": number},
            )
            box.left_behind()  # finds the last one's
            start = perf_counter_ns()
            box.look()
            times.append((perf_counter_ns() - start) / 1e3)
    return times


if __name__ == "__main__":
    main()
