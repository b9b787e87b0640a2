"""What it costs to see inside a compiled model: the demo's GPT compiled as one, block by block, and not at all.

    python -m benchmarks.compiled

All ways are in one process, traced all the time, and take turns, a few steps each, in an order that changes; the spans
are made and sent nowhere. With marks the blocks inside the one graph are seen too: each mark is crossed and recorded in
each step. A step is one micro-batch of 4 sequences, on one thread. Printed are the median of the rounds and in brackets
the quartiles, and the ratio to the step of the model that was compiled as one, round by round. Each way compiles from
empty caches. What one mark takes is printed last. Two minutes.
"""

from __future__ import annotations

import os
import random
import time
import warnings
from collections.abc import Callable
from statistics import median, quantiles

import torch
from torch import Tensor, nn
from torch._inductor import config as inductor
from torch.nn import functional

from benchmarks.machine import describe, old_objects_set_aside, use_one_thread
from otel_torch_modules import Config, TorchModuleInstrumentor, step
from otel_torch_modules._recording.compiled_marks import mark_op
from otel_torch_modules.examples.train_gpt import CONTEXT, GPT, VOCABULARY

_WIDTH = 128
_BATCH = 4
_STEPS = 3  # timed in a round, after one that is not
_ROUNDS = 20
_MARKS = 200  # in a step
_WHOLE = "compiled as one"

Step = Callable[[], None]


class MarkedGPT(GPT):
    """The same, with its blocks by a name that is asked for marks: the name is all that the others lack."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.marked = self._modules.pop("h")

    @property
    def h(self) -> nn.ModuleList:  # type: ignore[override]
        return self.marked


def not_compiled() -> GPT:
    """Return it as it is."""
    return GPT(_WIDTH)


def block_by_block() -> GPT:
    """Return it with what is repeated compiled."""
    model = GPT(_WIDTH)
    for block in model.h:
        block.compile()
    return model


def as_one() -> GPT:
    """Return it with all of it compiled."""
    model = GPT(_WIDTH)
    model.compile()
    return model


def as_one_with_marks() -> GPT:
    """Return the same with marks at the borders of the blocks."""
    model = MarkedGPT(_WIDTH)
    model.compile()
    _once(model)
    listens = mark_op._cross
    assert listens is not None
    crossed: list[str] = []

    def count(ends: str, begins: str, backward: bool) -> None:
        crossed.append(begins)
        listens(ends, begins, backward)

    mark_op.listen(count)
    _once(model)
    mark_op.listen(listens)
    print(f"{len(crossed)} marks in a step")
    return model


_WAYS: dict[str, Callable[[], GPT]] = {
    _WHOLE: as_one,
    "one, with marks": as_one_with_marks,
    "block by block": block_by_block,
    "not compiled": not_compiled,
}


def _batch() -> Tensor:
    return torch.randint(len(VOCABULARY), (_BATCH, CONTEXT))


def _once(model: GPT) -> None:
    tokens = _batch()
    functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten()).backward()


class Marks(nn.Module):
    """Crosses borders, and knows how long each took."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def forward(self, x: Tensor) -> Tensor:
        mark = torch.ops.otel_torch_modules.mark.default
        start = time.perf_counter()
        for _ in range(_MARKS // 2):
            mark(x, "h.0|h.1|forward")
            mark(x, "h.1|h.0|forward")
        self.seconds.append((time.perf_counter() - start) / _MARKS)
        return x


def mark_seconds() -> list[float]:
    """Return how long a mark took that is recorded, in each of some steps."""
    marks = Marks()
    for index in range(_ROUNDS):
        with step(index):
            marks(torch.ones(8))
    return marks.seconds


def training_step(make: Callable[[], GPT]) -> Step:
    """Return what makes one step of a model of its own."""
    torch.manual_seed(0)
    model = make()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def train() -> None:
        _once(model)
        optimizer.step()
        optimizer.zero_grad()

    return train


def seconds(step: Step, steps: int = 1) -> float:
    """Return how long a step takes, on the clock."""
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return (time.perf_counter() - start) / steps


def main() -> None:
    """Print all figures."""
    use_one_thread()
    os.environ["OTEL_TRACES_EXPORTER"] = "none"
    inductor.force_disable_caches = True
    warnings.filterwarnings("ignore", "dynamo_pgo force disabled")
    print(describe(), flush=True)
    tracing = TorchModuleInstrumentor()
    tracing.instrument(config=Config(compiled_marks=("*.marked.*",)))
    steps: dict[str, Step] = {}
    first: dict[str, float] = {}
    for name, way in _WAYS.items():
        start = time.perf_counter()
        steps[name] = training_step(way)
        steps[name]()
        first[name] = time.perf_counter() - start
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
    print(f"a mark that is recorded {_spread(mark_seconds(), 1e6)} µs")
    tracing.uninstrument()


def _spread(figures: list[float], scale: float = 1.0) -> str:
    low, _, high = quantiles(figures, n=4)
    return f"{median(figures) * scale:.3g} ({low * scale:.3g} to {high * scale:.3g})"


if __name__ == "__main__":
    main()
