"""CPU time of the process for each span, everything included: hooks, assembly, encoding, export by gRPC.

    python benchmarks/cost_per_span.py [--rounds 3] [--spans 100000]

The processor time of all threads is taken over steps that are traced and exported to a local collector, from the first
of them until all have been sent, less that of the same steps untraced. Both are run in turn, for models of several
sizes; the first traced steps, in which places are seen for the first time, are not counted. The collector is a process
of its own and not counted either.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

from collector import local_collector
from toy import Toy, calls, training_step

from otel_torch_modules import Config, TorchModuleInstrumentor, step

_SIZES = (100, 1_000, 10_000, 50_000)
_LARGEST_MODEL = 10_000  # spans; larger steps are made of several micro-batches
_WARM_UP = 2  # steps


def untraced_ns(train: Callable[[], None], steps: int) -> int:
    """Return the processor time of `steps` steps."""
    start = time.process_time_ns()
    for _ in range(steps):
        train()
    return time.process_time_ns() - start


def traced_ns(train: Callable[[], None], steps: int) -> int:
    """Return the processor time of `steps` steps until their spans have been sent."""
    for index in range(steps):
        if index == _WARM_UP:
            _sent()
            start = time.process_time_ns()
        with step(index):
            train()
    _sent()
    return time.process_time_ns() - start


def _sent() -> None:
    tracing = TorchModuleInstrumentor()._tracing
    assert tracing is not None
    assert tracing._pipeline.flush(60)
    assert tracing._pipeline._worker.dropped == 0  # else the figure would be too good


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


def measure(size: Size, spans: int, rounds: int) -> list[float]:
    """Return microseconds for each span, one figure a round."""
    steps = max(2, spans // size.spans)
    found = []
    for _ in range(rounds):
        base = untraced_ns(size.train, steps)
        TorchModuleInstrumentor().instrument(config=Config())
        traced = traced_ns(size.train, steps + _WARM_UP)
        TorchModuleInstrumentor().uninstrument()
        gc.collect()
        found.append((traced - base) / steps / size.spans / 1e3)
    return found


def main() -> None:
    """Print a row for each size."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--spans", type=int, default=100_000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with local_collector() as found:
        if not found:
            sys.exit("no collector: set OTEL_TORCH_MODULES_TEST_BACKENDS to a folder with otelcol")
        print(f"{'spans a step':>14}{'µs of CPU a span':>20}{'least - most':>18}")
        for spans in _SIZES:
            size = Size(spans)
            values = measure(size, arguments.spans, arguments.rounds)
            spread = f"{min(values):.2f} - {max(values):.2f}"
            print(f"{size.spans:>14}{statistics.median(values):>20.2f}{spread:>18}", flush=True)


if __name__ == "__main__":
    main()
