"""What a module call costs more where it hands on things that are no tensors, beside a call with a lone tensor.

    python -m benchmarks.handed [--quick]

Thirteen modules hand on a tensor and what is told; the same with the tensor alone. Each is recorded and dropped, as in
`overhead.py`, and measured against itself without tracing.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from time import thread_time_ns
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import contenders
from benchmarks.contenders import Step
from benchmarks.figures import Row, median
from benchmarks.interleaved import Size, compare
from benchmarks.machine import use_one_thread

_MODULES = 13
_BLOCK = Size(warm_up=20, timed=100)
_BAR_US = 1


class Lazy:
    """A sequence of the program's own that works for what it gives."""

    def __iter__(self) -> Iterator[int]:
        return (number * number for number in range(50_000))


class HandsOn(nn.Module):
    """Gives what it is given, the tensor plus one."""

    def forward(self, x: Tensor, *things: Any) -> Any:
        """Return `x` plus one, and `things` if there are any."""
        return (x + 1, *things) if things else x + 1


class Chain(nn.Module):
    """Modules that hand on to each other."""

    def __init__(self, *things: Any) -> None:
        super().__init__()
        self.parts = nn.ModuleList(HandsOn() for _ in range(_MODULES))
        self.things = things

    def forward(self, x: Tensor) -> Tensor:
        """Return what comes of `x`."""
        for part in self.parts:
            if self.things:
                x, *_ = part(x, *self.things)
            else:
                x = part(x)
        return x


_THINGS: dict[str, Any] = {
    "a dictionary of 50 000 integers": dict(enumerate(range(50_000))),
    "2 000 texts": [str(number) for number in range(2_000)],
    "a lazy list": Lazy(),
}


def _step(*things: Any) -> Step:
    model = Chain(*things)
    start = torch.ones(4, requires_grad=True)

    def run() -> None:
        model(start).sum().backward()

    return run


def per_call(train: Step, rounds: int) -> list[float]:
    """Return microseconds that tracing adds to a call, forward and backward, once a round."""
    pairs = compare({"": contenders.recording}, train, rounds, _BLOCK, clock=thread_time_ns)[""]
    return [pair.overhead / _MODULES / 1e3 for pair in pairs]


def rows(quick: bool) -> list[Row]:
    """Return the rows of the table."""
    rounds = 16 if quick else 60
    found = []
    for name, things in _THINGS.items():
        lone = per_call(_step(), rounds)
        handed = per_call(_step(things), rounds)
        note = f"{statistics.median(lone):.2f} to {statistics.median(handed):.2f} µs"
        more = median([with_it - without for with_it, without in zip(handed, lone, strict=True)])
        what = f"a module call that hands on {name} too, beside a lone tensor"
        found.append(Row(what, _BAR_US, "µs", more, note=note))
    return found


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    use_one_thread()
    for row in rows(quick):
        print(row)


if __name__ == "__main__":
    main()
