"""Memory: what a recorded call holds until its step is sent, and whether a long run holds more than a short one.

    python -m benchmarks.memory [--quick]

The first figure is what `tracemalloc` sees of ten more steps' records, forward and backward, when the steps are over:
what waits for the worker. The second is what it sees of the whole process after each hundred traced and exported steps
of a small model, when all has been sent: how much more it is half the run later, for each step between.
What fills up to a bound, as the stretches of time do in which the worker was at work, is full before.
"""

from __future__ import annotations

import gc
import tracemalloc
from array import array
from collections.abc import Sequence

import torch

from benchmarks.collector import destination
from benchmarks.enough import LONGER_THAN_A_TABLE_S, Enough
from benchmarks.figures import Row, exact, median
from benchmarks.part import print_rows
from benchmarks.recorded import fill_what_has_a_bound, forget_formats, record_steps, send_all
from benchmarks.toy import Toy, calls, training_step
from otel_torch_modules import Config, TorchModuleInstrumentor, step

_HUNDRED = 100  # steps
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


def of_a_long_run(enough: Enough) -> list[Row]:
    """See what the process holds after ever more steps."""
    train = training_step(Toy(_BLOCKS), torch.randn(2, 4, 8))
    instrumentor = TorchModuleInstrumentor()
    held = array("q")  # a list of numbers would grow itself

    def hundred_steps(first: int) -> None:
        for index in range(first, first + _HUNDRED):
            with step(index):
                train()
        send_all()

    with destination(enough) as sink:
        tracemalloc.start()
        instrumentor.instrument(config=Config(stall_timeout=LONGER_THAN_A_TABLE_S))
        hundred_steps(0)
        fill_what_has_a_bound()
        for number in enough.rounds(lambda: _growth_rows(held)):
            hundred_steps((number + 1) * _HUNDRED)
            forget_formats()
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        instrumentor.uninstrument()
        # Asked once: each question leaves 160 bytes in `urllib`.
        sink.wait_for((len(held) + 1) * _HUNDRED * _SPANS)
    return _growth_rows(held)


def _growth_rows(held: Sequence[int]) -> list[Row]:
    """Compare what was held in the first half with what was held half the run later."""
    half = len(held) // 2
    steps = half * _HUNDRED
    grown = [(later - before) / steps for before, later in zip(held, held[half:], strict=False)]
    what = "what a process holds more after each step of a long run"
    note = f"{min(held) / 1e3:.0f} to {max(held) / 1e3:.0f} kB in {len(held) * _HUNDRED} steps"
    return [Row(what, _STEP_BAR, "bytes", median(grown), added=True, note=note)]


def of_a_call(enough: Enough) -> list[Row]:
    """See what a recorded call holds."""
    call = "memory of a recorded module call until its step is exported"
    return [Row(call, _CALL_BAR, "bytes", exact(bytes_of_a_call()))]


COMPARISONS = (of_a_call, of_a_long_run)


if __name__ == "__main__":
    print_rows(__doc__, COMPARISONS)
