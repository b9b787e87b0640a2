"""What a look for stalls costs the worker, and the black box's file.

    python -m benchmarks.looking [--quick]

The worker looks five times a second. Printed is how long one look takes while a thread stands in the innermost of
modules that are nested a dozen deep: the median, in microseconds, and the most. The file is written once a
second, to the folder of temporary files.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter_ns

import torch
from torch import Tensor, nn

from benchmarks.enough import LONGER_THAN_A_TABLE_S, Enough
from benchmarks.figures import Row, median
from benchmarks.part import print_rows
from otel_torch_modules import Config, TorchModuleInstrumentor
from otel_torch_modules._engine.black_box import BlackBox
from otel_torch_modules._engine.control import Control
from otel_torch_modules._recording.requests import Requests
from otel_torch_modules._tracing import Tracing
from otel_torch_modules.testing import capture_spans

_DEPTH = 12
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


def looks(enough: Enough) -> list[Row]:
    """Look for stalls, write the file of a black box, and say where the rank stands."""
    stop = threading.Barrier(2)
    model = _Nested(_DEPTH, stop)
    config = Config(stall_timeout=LONGER_THAN_A_TABLE_S)
    with capture_spans(config), TemporaryDirectory() as boxes, TemporaryDirectory() as ranks:
        thread = threading.Thread(target=lambda: model(torch.ones(1, 8)).sum().backward())
        thread.start()
        stop.wait()
        tracing = TorchModuleInstrumentor()._tracing
        assert tracing is not None
        assert tracing._lookout._stalls is not None
        ways = {
            "a look for stalls, five a second": tracing._lookout._stalls.look,
            "a black box's file, one a second": _box(tracing, Path(boxes)),
            "a file for `top`, and a look for a request, one a second": _rank(tracing, Path(ranks)),
        }
        times: dict[str, list[float]] = {what: [] for what in ways}
        for _ in enough.rounds(lambda: _rows(times)):
            for what, way in ways.items():
                start = perf_counter_ns()
                way()
                times[what].append((perf_counter_ns() - start) / 1e3)
        stop.wait()
        thread.join()
    return _rows(times)


COMPARISONS = (looks,)


def _rows(times: Mapping[str, Sequence[float]]) -> list[Row]:
    return [
        Row(what, bar, "µs", median(each), note=f"at most {max(each):.0f}")
        for (what, each), bar in zip(times.items(), (_LOOK_US, _FILE_US, _FILE_US), strict=True)
    ]


def _box(tracing: Tracing, folder: Path) -> Callable[[], object]:
    """Return what describes where this process stands, and writes that."""
    number = count()
    box = BlackBox(
        folder,
        lambda: 0,
        lambda: {**(tracing._lookout._describe() or {}), "number": next(number)},
        clock=partial(next, count(step=60.0)),  # it is due whenever it is asked
    )
    box.left_behind()
    return box.look


def _rank(tracing: Tracing, folder: Path) -> Callable[[], object]:
    """Return what says where a rank stands, and looks for a request."""
    requests = Requests(tracing._recorder, lambda: None, lambda: None)
    lookout = tracing._lookout
    control = Control(folder, lookout._in_job, lookout._stand, lambda: 0, requests, lambda: None)

    def look() -> None:
        control._due = 0.0
        control.look()

    return look


if __name__ == "__main__":
    print_rows(__doc__, COMPARISONS)
