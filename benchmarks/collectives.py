"""What a collective costs its caller, with gloo on one rank: without us, where no step is recorded, and where one is.

Run it as ``python -m benchmarks.collectives``. Launched and waited for; a figure is the median of some thousand, in
microseconds, and in brackets the least and the most of eleven such, taken in turn. Then what a kernel of
Python's costs by itself.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from statistics import median
from time import perf_counter_ns as now
from typing import Any

import torch
from torch import distributed

from otel_torch_modules._recording.causes.causes import Causes
from otel_torch_modules._recording.recorder import Recorder
from otel_torch_modules._recording.torch_private.collectives import (
    AFTER_US,
    CollectiveOperator,
    stand_before,
)
from otel_torch_modules._records import Record
from otel_torch_modules.config import Config

_STEPS = 50
_PER_STEP = 40  # collectives; what is kept of them leaves with the step
_ROUNDS = 11


def launched(
    call: Callable[[], distributed.Work], step_ends: Callable[[], None]
) -> tuple[float, float]:
    """Return the median time until it was launched, and until it was done (µs)."""
    launches, ends = [], []
    for _ in range(_STEPS):
        for _ in range(_PER_STEP):
            start = now()
            work = call()
            middle = now()
            work.wait()
            launches.append(middle - start)
            ends.append(now() - start)
        step_ends()
    return median(launches) / 1e3, median(ends) / 1e3


def main() -> None:
    """Print all figures."""
    torch.set_num_threads(1)
    store = distributed.HashStore()  # type: ignore[attr-defined]
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    recorder = Recorder(Config())
    causes = Causes(("collective",), recorder)
    tensor = torch.ones(1_000)
    gc.collect()
    gc.freeze()

    def all_reduce() -> distributed.Work:
        work = distributed.all_reduce(tensor, async_op=True)
        assert work is not None
        return work

    def without() -> None:
        causes.uninstall()

    def not_recorded() -> None:
        causes.modules_open()
        recorder.step.turn_to(None)

    def recorded() -> None:
        causes.modules_open()
        recorder.step.turn_to(Record("step", 0, now(), 0))

    found: dict[str, list[tuple[float, float]]] = {}
    for _ in range(_ROUNDS):
        for prepare in (without, not_recorded, recorded):
            prepare()
            found.setdefault(prepare.__name__, []).append(launched(all_reduce, causes.forget))
            causes.uninstall()
    for name, figures in found.items():
        for what, column in zip(("launched", "done"), zip(*figures, strict=True), strict=True):
            print(f"{name:14}{what:10} {_said(column)}")
    for name in ("not_recorded", "recorded"):
        pairs = zip(found[name], found["without"], strict=True)
        more = [(after[0] - before[0], after[1] - before[1]) for after, before in pairs]
        for what, column in zip(("launched", "done"), zip(*more, strict=True), strict=True):
            print(f"{name:14}{what:10} {_said(column)} more")
    print(f"a kernel of Python's that does nothing {_said(way_through(all_reduce))} more")
    distributed.destroy_process_group()


def way_through(call: Callable[[], distributed.Work]) -> tuple[float, ...]:
    """Return what a kernel of Python's costs that only passes on, whatever it is for (µs)."""

    def passes_on(operator: CollectiveOperator) -> Callable[..., Any]:
        def kernel(keys: Any, *args: Any) -> Any:
            return operator.launch(keys & AFTER_US, *args)

        return kernel

    found: list[float] = []
    for _ in range(_ROUNDS):
        before, _ = launched(call, gc.get_count)
        undo = stand_before(["allreduce_"], passes_on)
        after, _ = launched(call, gc.get_count)
        undo()
        found.append(after - before)
    return tuple(found)


def _said(figures: tuple[float, ...]) -> str:
    return f"{median(figures):6.1f} ({min(figures):.1f} - {max(figures):.1f})"


if __name__ == "__main__":
    main()
