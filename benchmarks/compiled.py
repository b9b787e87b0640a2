"""What it costs to see inside a compiled model: the demo's GPT compiled as one, block by block, and not at all.

    python -m benchmarks.compiled

All ways are in one process and take turns, a few steps each, in an order that changes. A step is one micro-batch of 4
sequences, on one thread, untraced. Printed are the median of the rounds and in brackets the quartiles, and the ratio to
the step of the model that was compiled as one, round by round. Each way compiles from empty caches. Two minutes.
"""

from __future__ import annotations

import random
import time
import warnings
from collections.abc import Callable
from statistics import median, quantiles

import torch
from torch._inductor import config as inductor
from torch.nn import functional

from benchmarks.machine import describe, old_objects_set_aside, use_one_thread
from otel_torch_modules.examples.train_gpt import CONTEXT, GPT, VOCABULARY

_WIDTH = 128
_BATCH = 4
_STEPS = 3  # timed in a round, after one that is not
_ROUNDS = 25
_WHOLE = "compiled as one"

Step = Callable[[], None]


def not_compiled(model: GPT) -> None:
    """Leave it as it is."""


def block_by_block(model: GPT) -> None:
    """Compile what is repeated."""
    for block in model.h:
        block.compile()


def as_one(model: GPT) -> None:
    """Compile all of it."""
    model.compile()


_WAYS: dict[str, Callable[[GPT], None]] = {
    _WHOLE: as_one,
    "block by block": block_by_block,
    "not compiled": not_compiled,
}


def training_step(compile_it: Callable[[GPT], None]) -> Step:
    """Return what makes one step of a model of its own."""
    torch.manual_seed(0)
    model = GPT(_WIDTH)
    compile_it(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    tokens = torch.randint(len(VOCABULARY), (_BATCH, CONTEXT))

    def step() -> None:
        logits = model(tokens)
        functional.cross_entropy(logits.flatten(0, 1), tokens.flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def seconds(step: Step, steps: int = 1) -> float:
    """Return how long a step takes, on the clock."""
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return (time.perf_counter() - start) / steps


def main() -> None:
    """Print all figures."""
    use_one_thread()
    inductor.force_disable_caches = True
    warnings.filterwarnings("ignore", "dynamo_pgo force disabled")
    print(describe(), flush=True)
    steps: dict[str, Step] = {}
    first: dict[str, float] = {}
    for name, way in _WAYS.items():
        steps[name] = training_step(way)
        first[name] = seconds(steps[name])
    taken: dict[str, list[float]] = {name: [] for name in steps}
    order = list(steps)
    with old_objects_set_aside():
        for _ in range(_ROUNDS):
            random.shuffle(order)
            for name in order:
                steps[name]()
                taken[name].append(seconds(steps[name], _STEPS))
    for name in steps:
        ratios = [own / whole for own, whole in zip(taken[name], taken[_WHOLE], strict=True)]
        print(
            f"{name:16}  first step {first[name]:5.1f} s  step {_spread(taken[name], 1e3)} ms  "
            f"of the step compiled as one {_spread(ratios)}"
        )


def _spread(figures: list[float], scale: float = 1.0) -> str:
    low, _, high = quantiles(figures, n=4)
    return f"{median(figures) * scale:.3g} ({low * scale:.3g} to {high * scale:.3g})"


if __name__ == "__main__":
    main()
