"""Memory: what a recorded call holds until its step is sent, and whether a long run holds more than a short one.

    python -m benchmarks.memory [--quick]

The first figure is what `tracemalloc` sees of ten more steps' records, forward and backward, when the steps are over:
what waits for the worker. The second is what it sees of the whole process after so many traced and exported steps of
a small model, when all has arrived at the collector, less the same after a hundred.
"""

from __future__ import annotations

import gc
import tracemalloc

import torch

from benchmarks.collector import Sink, local_collector
from benchmarks.enough import Enough
from benchmarks.figures import Row, exact
from benchmarks.part import print_rows
from benchmarks.recorded import record_steps, send_all
from benchmarks.toy import Toy, calls, training_step
from otel_torch_modules import Config, TorchModuleInstrumentor, step

_FEW = 100
_HUNDREDS_A_SECOND = 3  # of steps
_BLOCKS = 4
_SPANS = 2 * calls(_BLOCKS) + 2
_CALL_BAR = 400
_STEP_BAR = (
    1  # byte; what a counter that grows, or an allocator's page, adds in 10 000 steps is less
)


def bytes_of_a_call() -> float:
    """Return what one more step's record holds, for each of its module calls."""
    blocks, held = 100, []
    for count in (3, 13):
        tracemalloc.start()
        records = record_steps(blocks, count)
        gc.collect()
        held.append(tracemalloc.get_traced_memory()[0])
        del records
        tracemalloc.stop()
    return (held[1] - held[0]) / 10 / calls(blocks)


def held_after(steps: int, sink: Sink) -> tuple[int, int]:
    """Return the traced bytes after `_FEW` steps and after `steps`."""
    train = training_step(Toy(_BLOCKS), torch.randn(2, 4, 8))
    instrumentor = TorchModuleInstrumentor()
    tracemalloc.start()
    instrumentor.instrument(config=Config())
    held = []
    for index in range(steps):
        with step(index):
            train()
        if index + 1 in (_FEW, steps):
            send_all()
            sink.wait_for((index + 1) * _SPANS)
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    instrumentor.uninstrument()
    return held[0], held[1]


def of_a_call(enough: Enough) -> list[Row]:
    """See what a recorded call holds."""
    call = "memory of a recorded module call until its step is exported"
    return [Row(call, _CALL_BAR, "bytes", exact(bytes_of_a_call()))]


def of_a_long_run(enough: Enough) -> list[Row]:
    """See what the process holds after many steps."""
    steps = 100 * round(_HUNDREDS_A_SECOND * enough.seconds)
    with local_collector() as sink:
        few, many = held_after(steps, sink)
    what = f"memory after {steps} steps less after {_FEW}, for each step between"
    note = f"{few / 1e3:.0f} kB, then {many / 1e3:.0f} kB"
    return [Row(what, _STEP_BAR, "bytes", exact((many - few) / (steps - _FEW)), note=note)]


COMPARISONS = (of_a_call, of_a_long_run)


if __name__ == "__main__":
    print_rows(__doc__, COMPARISONS)
