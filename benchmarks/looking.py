"""What a look for stalls costs the worker, and the black box's file.

    python -m benchmarks.looking [--quick]

The worker looks five times a second. Printed is how long one look takes while a thread stands in the innermost of
modules that are nested a dozen deep: the median of 200, in microseconds, and the most. The file is written once a
second, to the folder of temporary files.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter_ns
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.enough import Enough
from benchmarks.figures import Row, median
from benchmarks.part import print_rows
from otel_torch_modules import TorchModuleInstrumentor
from otel_torch_modules._engine.black_box import BlackBox
from otel_torch_modules._engine.control import Control
from otel_torch_modules._recording.requests import Requests
from otel_torch_modules._tracing import Tracing
from otel_torch_modules.testing import capture_spans

_DEPTH = 12
_LOOKS = 50  # of a quick run
_LOOK_US = 100
_FILE_US = 2_000


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


def rows(enough: Enough) -> list[Row]:
    """Return the rows of the table."""
    looks = round(_LOOKS * enough.longer)
    stop = threading.Barrier(2)
    model = _Nested(_DEPTH, stop)
    with capture_spans():
        thread = threading.Thread(target=lambda: model(torch.ones(1, 8)).sum().backward())
        thread.start()
        stop.wait()
        tracing = TorchModuleInstrumentor()._tracing
        assert tracing is not None
        assert tracing._lookout._stalls is not None
        times = []
        for _ in range(looks):
            start = perf_counter_ns()
            tracing._lookout._stalls.look()
            times.append((perf_counter_ns() - start) / 1e3)
        written = _write_times(tracing._lookout._describe, looks)
        spoken = _speak_times(tracing, looks)
        stop.wait()
        thread.join()
    return [
        Row("a look for stalls, five a second", _LOOK_US, "µs", median(times), note=_most(times)),
        Row(
            "a black box's file, one a second", _FILE_US, "µs", median(written), note=_most(written)
        ),
        Row(
            "a file for `top`, and a look for a request, one a second",
            _FILE_US,
            "µs",
            median(spoken),
            note=_most(spoken),
        ),
    ]


def _most(times: list[float]) -> str:
    return f"at most {max(times):.0f}"


def _write_times(describe: Callable[[], Mapping[str, Any] | None], count: int) -> list[float]:
    """Return how long it takes to describe where a process stands and to write that."""
    times = []
    with TemporaryDirectory() as folder:
        for number in range(count):
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


def _speak_times(tracing: Tracing, count: int) -> list[float]:
    """Return how long it takes a rank to say where it stands, and to look for a request."""
    times = []
    with TemporaryDirectory() as folder:
        requests = Requests(tracing._recorder, lambda: None, lambda: None)
        control = Control(
            Path(folder),
            tracing._lookout._in_job,
            tracing._lookout._stand,
            lambda: 0,
            requests,
            lambda: None,
        )
        for _ in range(count):
            control._due = 0.0
            start = perf_counter_ns()
            control.look()
            times.append((perf_counter_ns() - start) / 1e3)
    return times


if __name__ == "__main__":
    print_rows(__doc__, rows)
