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

from benchmarks.collector import ProgramMissingError, Sink, local_collector, local_file
from benchmarks.enough import Enough
from benchmarks.figures import LeftOut, Row, median
from benchmarks.machine import processor_wait_ns
from benchmarks.part import print_rows
from benchmarks.toy import Toy, calls, training_step
from otel_torch_modules import Config, TorchModuleInstrumentor, step

_BLOCKS = 832  # 10 000 spans
_SPANS = 2 * calls(_BLOCKS) + 2
_LOOK_S = 0.5
_LIMIT_S = 60
_SECONDS = 12  # of a quick run, for each way
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


class Gaps:
    """The longest gaps, milliseconds, of each step and of as many stretches without tracing, and full collections."""

    def __init__(self, enough: Enough, sink: Sink) -> None:
        self._train = training_step(Toy(_BLOCKS), torch.randn(2, 4, 8))
        self._sink = sink
        self.traced: list[float] = []
        self.collections = 0
        TorchModuleInstrumentor().instrument(config=Config())
        for _ in range(_WARM_UP):
            self._step()
        self.traced.clear()
        self.collections = 0
        for _ in enough.rounds(_SECONDS, lambda: [median(self.traced)]):
            self._step()
        TorchModuleInstrumentor().uninstrument()
        self.untraced = [longest_gap_ms() for _ in self.traced]

    def _step(self) -> None:
        arrived = self._sink.accepted()
        with step():
            self._train()
        before = gc.get_stats()[2]["collections"]
        self.traced.append(longest_gap_until_sent_ms(self._sink, arrived + _SPANS))
        self.collections += gc.get_stats()[2]["collections"] > before


def rows(enough: Enough) -> list[Row | LeftOut]:
    """Return the rows of the table."""
    with local_file() as file:
        written = _row("written to a file", _FILE_BAR_MS, Gaps(enough, file))
    return [_exported(enough), written]


def _exported(enough: Enough) -> Row | LeftOut:
    try:
        with local_collector() as sink:
            return _row("exported", _BAR_MS, Gaps(enough, sink))
    except ProgramMissingError as missing:
        return LeftOut(_what("exported"), str(missing))


def _row(fate: str, bar_ms: int, gaps: Gaps) -> Row:
    note = (
        f"worst {max(gaps.traced):.1f}; untraced {median(gaps.untraced).value:.1f}, worst "
        f"{max(gaps.untraced):.1f}; {gaps.collections} of {len(gaps.traced)} saw a full collection"
    )
    return Row(_what(fate), bar_ms, "ms", median(gaps.traced), note=note)


def _what(fate: str) -> str:
    return f"longest stall of the training thread while 10 000 spans are {fate}"


if __name__ == "__main__":
    print_rows(__doc__, rows)
