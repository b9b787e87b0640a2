"""Overhead per module call on the training thread, all contenders interleaved in one process.

    python benchmarks/overhead.py [--rounds 15] [--steps 20]

Each round runs every contender once, in an order of its own, so that a machine that slows down slows down all. Timed is
a block of steps; the figure of a contender is the median over the rounds of (its time - the time of `nothing` in the
same round) / module calls. Quartiles are printed beside it. The garbage collector is off while a block runs, for all
alike. With ``OTEL_EXPORTER_OTLP_ENDPOINT`` set, or a collector program in ``OTEL_TORCH_MODULES_TEST_BACKENDS``,
the contenders that export run too.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import sys
from pathlib import Path
from time import perf_counter_ns, sleep

import torch

sys.path.insert(0, str(Path(__file__).parent))

from collector import local_collector
from contenders import CONTENDERS, EXPORTING, Contender
from toy import Toy, calls, training_step

_SETTLE_S = 0.5  # in which a contender does what it does in the background only once


def block_ns(contender: Contender, step: object, steps: int) -> float:
    """Return the nanoseconds that a step takes under `contender`, over a block of `steps`."""
    with contender() as run:
        for _ in range(3):
            run(step)
        sleep(_SETTLE_S)
        gc.collect()
        gc.disable()
        start = perf_counter_ns()
        for _ in range(steps):
            run(step)
        time = perf_counter_ns() - start
        gc.enable()
    return time / steps


def measure(
    contenders: dict[str, Contender], step: object, rounds: int, steps: int
) -> dict[str, list[float]]:
    """Return each contender's times of a step, one for each round."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    for _ in range(rounds):
        random.shuffle(order)
        for name in order:
            times[name].append(block_ns(contenders[name], step, steps))
    return times


def overheads(times: dict[str, list[float]], module_calls: int) -> dict[str, list[float]]:
    """Return microseconds per module call on top of `nothing`, one for each round."""
    base = times["nothing"]
    return {
        name: [(time - least) / module_calls / 1e3 for time, least in zip(own, base, strict=True)]
        for name, own in times.items()
    }


def report(found: dict[str, list[float]]) -> None:
    """Print the table: median, quartiles, and the ratio of ours to each."""
    ours = statistics.median(found["ours, recording"])
    print(f"{'':36}{'µs / module call':>18}{'quartiles':>16}{'ours, recording':>18}")
    for name, values in found.items():
        median = statistics.median(values)
        low, _, high = statistics.quantiles(values, n=4)
        ratio = "" if name in ("nothing", "ours, recording") else f"{ours / median:.2f} x"
        print(f"{name:36}{median:18.2f}{f'{low:.2f} - {high:.2f}':>16}{ratio:>18}")


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model, batch = Toy(), torch.randn(2, 4, 8)
    with local_collector() as found:
        contenders = CONTENDERS | (EXPORTING if found else {})
        times = measure(contenders, training_step(model, batch), arguments.rounds, arguments.steps)
    base = statistics.median(times["nothing"])
    print(f"{calls()} module calls a step, forward and backward; a step takes {base / 1e6:.2f} ms")
    report(overheads(times, calls()))
    if not found:
        print("no collector: the contenders that export were left out")


if __name__ == "__main__":
    main()
