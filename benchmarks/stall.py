"""How long the training thread has to wait for the interpreter lock while a large step is assembled and sent.

    python benchmarks/stall.py [--steps 20]

After each step of 10 000 spans the training thread looks at the clock in a tight loop, which never gives the lock up by
itself, until all has been sent. Told are the longest gap between two looks for each step, and the same without tracing:
what this machine does to a loop anyway. Python's switch interval is the default. A full collection of the garbage
collector stops all threads, as it does in any program; steps in which there was one are told apart.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))

from collector import local_collector
from toy import Toy, training_step

from otel_torch_modules import Config, TorchModuleInstrumentor, step

_BLOCKS = 832  # 10 000 spans
_LOOK_S = 1.5  # longer than a step waits and takes to be sent


def longest_gap_ms() -> float:
    """Return the longest time between two looks at the clock."""
    longest, last = 0, time.perf_counter_ns()
    end = last + int(_LOOK_S * 1e9)
    while last < end:
        now = time.perf_counter_ns()
        if now - last > longest:
            longest = now - last
        last = now
    return longest / 1e6


def main() -> None:
    """Print the median, the worst and the collections."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=20)
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    train = training_step(Toy(_BLOCKS), torch.randn(2, 4, 8))
    idle = [longest_gap_ms() for _ in range(3)]
    gaps, collected = [], []
    with local_collector() as found:
        if not found:
            sys.exit("no collector: set OTEL_TORCH_MODULES_TEST_BACKENDS to a folder with otelcol")
        TorchModuleInstrumentor().instrument(config=Config())
        for index in range(steps + 2):
            with step(index):
                train()
            before = gc.get_stats()[2]["collections"]
            gap = longest_gap_ms()
            if index >= 2:  # in the first ones all places are new
                full = gc.get_stats()[2]["collections"] > before
                (collected if full else gaps).append(gap)
        TorchModuleInstrumentor().uninstrument()
    print(
        f"longest gap of a step, ms: median {statistics.median(gaps):.1f}, worst {max(gaps):.1f}; "
        f"untraced {max(idle):.1f}"
    )
    if collected:
        print(
            f"{len(collected)} of {steps} steps saw a full collection: up to {max(collected):.0f} ms"
        )


if __name__ == "__main__":
    main()
