"""Whether `max_overhead` holds: the toy model traced with a budget against the same untraced, in short blocks in turn.

    python -m benchmarks.budget [--budget 0.05] [--width 256] [--batch 32] [--pairs 60]

Everything is as in use: the worker assembles, encodes and exports to a local collector meanwhile. Only in the untraced
blocks ``nn.Module.__call__`` is what it was before, so no step opens. A block holds a whole number of strides, so each
has its share of the steps that are recorded in full. Told is by how much tracing adds

- to the time of quiet steps: for each place in a block the lower quartile over all blocks, added up over the block.
  What other programs do on the machine does not reach it; what full steps leave for the steps after them does;
- to the time of all steps together, which on a shared machine needs many pairs;
- to the processor time of the whole process, the worker and gRPC's own threads included.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import nn

from benchmarks.collector import local_collector
from benchmarks.toy import Toy
from otel_torch_modules import Config, TorchModuleInstrumentor

_BLOCK = 32  # steps
_SETTLE_BLOCKS = 6
_SETTLE_S = 0.1  # in which the worker sends what a block has left to it


class Block(NamedTuple):
    """The times of a block of steps, in nanoseconds."""

    steps: list[int]
    processor: int


def training_step(width: int, batch: int) -> Callable[[], None]:
    """Return a function that makes a step of the toy model with an optimizer."""
    model, inputs = Toy(width=width), torch.randn(batch, 4, width)
    sgd = torch.optim.SGD(model.parameters(), lr=1e-3)

    def step() -> None:
        model(inputs).square().mean().backward()
        sgd.step()
        sgd.zero_grad()

    return step


def timed(step: Callable[[], None]) -> Block:
    """Run a block."""
    time.sleep(_SETTLE_S)
    processor = time.process_time_ns()
    times = [time.perf_counter_ns()]
    for _ in range(_BLOCK):
        step()
        times.append(time.perf_counter_ns())
    time.sleep(_SETTLE_S)
    processor = time.process_time_ns() - processor
    return Block([end - start for start, end in pairwise(times)], processor)


def measure(
    step: Callable[[], None], budget: float, pairs: int
) -> tuple[list[Block], list[Block], list[int]]:
    """Return the blocks untraced, those traced, and the stride after each pair."""
    plain = nn.Module.__call__
    instrumentor = TorchModuleInstrumentor()
    instrumentor.instrument(config=Config(max_overhead=budget))
    traced_call = nn.Module.__call__
    tracing = instrumentor._tracing
    assert tracing is not None
    assert tracing._spending is not None
    known = tracing._spending._steps.budget
    for _ in range(_SETTLE_BLOCKS):
        timed(step)
    untraced, traced, strides = [], [], []
    for pair in range(pairs):
        for with_tracing in (pair % 2 == 0, pair % 2 == 1):
            nn.Module.__call__ = traced_call if with_tracing else plain  # type: ignore[method-assign]
            (traced if with_tracing else untraced).append(timed(step))
        strides.append(known.stride)
    nn.Module.__call__ = traced_call  # type: ignore[method-assign]
    print(
        f"expected, µs a step: phases {known.phases_ns / 1e3:.0f}, in full {known.cost_ns(1) / 1e3:.0f}, "
        f"with the stride {known.cost_ns(known.stride) / 1e3:.0f}, allowed {known.allowed_ns / 1e3:.0f}"
    )
    instrumentor.uninstrument()
    return untraced, traced, strides


def quiet(blocks: list[Block]) -> float:
    """Return the time of a quiet step."""
    places = zip(*(block.steps for block in blocks), strict=True)
    return statistics.fmean(statistics.quantiles(place, n=4)[0] for place in places)


def whole(blocks: list[Block]) -> float:
    """Return the mean time of a step."""
    return statistics.fmean(statistics.fmean(block.steps) for block in blocks)


def processor(blocks: list[Block]) -> float:
    """Return the mean processor time of a step."""
    return statistics.fmean(block.processor for block in blocks) / _BLOCK


def report(
    figure: Callable[[list[Block]], float],
    untraced: list[Block],
    traced: list[Block],
    budget: float,
) -> None:
    """Print by how much tracing adds to a figure, over all pairs and over each fifth of them."""
    base = figure(untraced)
    added = figure(traced) - base
    fifths = [
        figure(traced[part::5]) / figure(untraced[part::5]) - 1 for part in range(5)
    ]  # each from all the time
    error = statistics.stdev(fifths) / 5**0.5
    print(
        f"{figure.__name__:10} {base / 1e3:9.0f} µs untraced, {added / 1e3:6.0f} µs added: {added / base:6.2%} "
        f"(+-{error:.2%}; fifths {min(fifths):.2%} to {max(fifths):.2%}), {added / base / budget:.2f} of the budget"
    )


def main() -> None:
    """Print what tracing was expected to cost and what it did cost."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--budget", type=float, default=0.05)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--pairs", type=int, default=60)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with local_collector():
        untraced, traced, strides = measure(
            training_step(arguments.width, arguments.batch), arguments.budget, arguments.pairs
        )
    print(f"budget {arguments.budget:.2%}; strides {sorted(set(strides))}")
    for figure in (quiet, whole, processor):
        report(figure, untraced, traced, arguments.budget)


if __name__ == "__main__":
    main()
