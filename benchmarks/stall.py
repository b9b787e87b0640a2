"""How long the training thread has to wait for the interpreter lock while a large step is assembled and sent.

    python -m benchmarks.stall [--quick]

After each step of 10 000 spans the training thread looks at the clock in a tight loop, which never gives the lock up
by itself, until all spans have arrived at the collector, or in the file. Told is the longest gap between two looks for
each step, beside the same without tracing: what this machine does to a loop anyway. Python's switch interval is the
default, and the garbage collector is as in any program: a full collection, which stops all threads, is part of the gap
that it falls into.
"""

from __future__ import annotations

import gc
import time

import torch

from benchmarks.collector import Sink, local_collector, local_file
from benchmarks.enough import LONGER_THAN_A_TABLE_S, Enough
from benchmarks.figures import Row, median
from benchmarks.machine import processor_wait_ns
from benchmarks.part import print_rows
from benchmarks.toy import Toy, calls, training_step
from otel_torch_modules import Config, TorchModuleInstrumentor, step

_BLOCKS = 832  # 10 000 spans
_SPANS = 2 * calls(_BLOCKS) + 2
_LOOK_S = 0.5
_LIMIT_S = 60
_UNTRACED = 8  # stretches
_WARM_UP = 2  # steps, in which all places are new
_BAR_MS = 6
_FILE_BAR_MS = 2


def longest_gap_ms() -> float:
    """Return the longest time between two looks at the clock, in which a processor was there for this thread."""
    longest, waited = 0, processor_wait_ns()
    last = time.perf_counter_ns()
    end = last + int(_LOOK_S * 1e9)
    while last < end:
        now = time.perf_counter_ns()
        if now - last > longest:
            before, waited = waited, processor_wait_ns()
            longest = max(longest, now - last - (waited - before))
            now = time.perf_counter_ns()
        last = now
    return longest / 1e6


def longest_gap_until_sent_ms(sink: Sink, spans: int) -> float:
    """Return the longest gap until `spans` spans have arrived in all; the question itself, now and then, is none.

    Raises:
        AssertionError: they have not arrived after a minute.
    """
    gaps = []
    while sink.accepted() < spans:
        gaps.append(longest_gap_ms())
        if len(gaps) * _LOOK_S > _LIMIT_S:
            raise AssertionError(f"a step was not sent within {_LIMIT_S} s")
    return max(gaps)


def stall(bar_ms: int, sink: Sink, enough: Enough) -> list[Row]:
    """Return the row of what steps stall this thread by, and beside it what the machine does without tracing."""
    train = training_step(Toy(_BLOCKS), torch.randn(2, 4, 8))
    traced: list[float] = []

    def one_step() -> float:
        arrived = sink.accepted()
        with step():
            train()
        return longest_gap_until_sent_ms(sink, arrived + _SPANS)

    def rows(more: str = "") -> list[Row]:
        what = f"longest stall of the training thread while 10 000 spans are {sink.fate}"
        note = f"worst {max(traced):.1f}{more}"
        return [Row(what, bar_ms, "ms", median(traced), added=True, note=note)]

    TorchModuleInstrumentor().instrument(config=Config(stall_timeout=LONGER_THAN_A_TABLE_S))
    for _ in range(_WARM_UP):
        one_step()
    with_collection = 0
    for _ in enough.rounds(rows):
        before = _full_collections()
        traced.append(one_step())
        with_collection += _full_collections() > before
    TorchModuleInstrumentor().uninstrument()
    if not enough.thorough:
        return rows()
    untraced = [longest_gap_ms() for _ in range(_UNTRACED)]
    return rows(
        f"; untraced {median(untraced).value:.1f}, worst {max(untraced):.1f}; "
        f"{with_collection} of {len(traced)} saw a full collection"
    )


def _full_collections() -> int:
    return gc.get_stats()[2]["collections"]


def exporting(enough: Enough) -> list[Row]:
    """Look at the clock while spans go to a collector."""
    with local_collector() as sink:
        return stall(_BAR_MS, sink, enough)


def writing(enough: Enough) -> list[Row]:
    """Look at the clock while spans go to a file."""
    with local_file() as file:
        return stall(_FILE_BAR_MS, file, enough)


COMPARISONS = (exporting, writing)


if __name__ == "__main__":
    print_rows(__doc__, COMPARISONS)
