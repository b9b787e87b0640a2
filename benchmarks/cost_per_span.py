"""CPU time of the process for each span, everything included: hooks, assembly, encoding, export by gRPC.

    python -m benchmarks.cost_per_span [--rounds 7] [--spans 200000]

The processor time of all threads is taken over steps that are traced and exported to a local collector, from the
first of them until tracing has been taken down, all its threads have ended and the collector has every span, less
that of the same steps untraced, before and after. Models of several sizes take turns; the first traced steps, in which
places are seen for the first time, are not counted. The collector is a process of its own and not counted either. The
garbage collector is on but for what was there before: a full collection looks at hundreds of thousands of objects of
torch, takes a quarter of a second, and comes once in a while with tracing and without.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from benchmarks.collector import Sink, local_collector
from benchmarks.figures import Row, ratio_of_medians, spread
from benchmarks.machine import old_objects_set_aside, use_one_thread
from benchmarks.toy import Toy, calls, training_step
from otel_torch_modules import Config, TorchModuleInstrumentor, step

SIZES = (100, 1_000, 10_000, 50_000)
_LARGEST_MODEL = 10_000  # spans; larger steps are made of several micro-batches
_WARM_UP = 2  # steps
_BAR_US = 10
_FLAT = 1.3


class Size:
    """A step of about `spans` spans: two for each call, one for each backward pass, one for itself."""

    def __init__(self, spans: int) -> None:
        self.micro_batches = max(1, spans // _LARGEST_MODEL)
        blocks = max(1, (spans // self.micro_batches // 2 - 3) // 6)
        self.spans = self.micro_batches * (2 * calls(blocks) + 1) + 1
        self._micro_batch = training_step(Toy(blocks), torch.randn(2, 4, 8))

    def train(self) -> None:
        """Run one step."""
        for _ in range(self.micro_batches):
            self._micro_batch()


def untraced_ns(train: Callable[[], None], steps: int) -> int:
    """Return the processor time of `steps` steps."""
    with old_objects_set_aside():
        start = time.process_time_ns()
        for _ in range(steps):
            train()
        return time.process_time_ns() - start


def traced_ns(size: Size, steps: int, sink: Sink) -> int:
    """Return the processor time of `steps` steps until all their spans have been sent."""
    before = sink.accepted()
    instrumentor = TorchModuleInstrumentor()
    instrumentor.instrument(config=Config())
    _train(size, _WARM_UP)
    sink.wait_for(before + _WARM_UP * size.spans)
    with old_objects_set_aside():
        start = time.process_time_ns()
        _train(size, steps)
        instrumentor.uninstrument()
        taken = time.process_time_ns() - start
    sink.wait_for(before + (_WARM_UP + steps) * size.spans)  # none was dropped
    return taken


def _train(size: Size, steps: int) -> None:
    for index in range(steps):
        with step(index):
            size.train()


def measure(size: Size, spans: int, sink: Sink) -> float:
    """Return microseconds for each span, in one round of about so many spans."""
    steps = max(2, spans // size.spans)
    untraced_ns(size.train, 2)
    before = untraced_ns(size.train, steps)
    traced = traced_ns(size, steps, sink)
    after = untraced_ns(size.train, steps)
    return (traced - (before + after) / 2) / steps / size.spans / 1e3


def by_size(spans: int, rounds: int, sink: Sink) -> dict[int, list[float]]:
    """Return microseconds for each span, one figure a round, for each number of spans in a step."""
    sizes = [Size(asked) for asked in SIZES]
    found: dict[int, list[float]] = {size.spans: [] for size in sizes}
    for _ in range(rounds):
        for size in sizes:
            found[size.spans].append(measure(size, spans, sink))
    return found


def rows(quick: bool) -> list[Row]:
    """Return the rows of the table."""
    with local_collector() as sink:
        found = by_size(60_000 if quick else 200_000, 3 if quick else 7, sink)
    each = [
        Row(f"CPU time of a span, everything, {size} spans a step", _BAR_US, "µs", spread(figures))
        for size, figures in found.items()
    ]
    cheapest, *_, dearest = sorted(found.values(), key=statistics.median)
    flat = ratio_of_medians(dearest, cheapest)
    return [*each, Row("the dearest of these sizes against the cheapest", _FLAT, "x", flat)]


def main() -> None:
    """Print a row for each size."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--spans", type=int, default=200_000)
    arguments = parser.parse_args()
    use_one_thread()
    with local_collector() as sink:
        print(f"{'spans a step':>14}{'µs of CPU a span':>30}")
        for spans, figures in by_size(arguments.spans, arguments.rounds, sink).items():
            print(f"{spans:>14}{spread(figures)!s:>30}")


if __name__ == "__main__":
    main()
