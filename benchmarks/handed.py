"""What a module call costs more where it hands on things that are no tensors, beside a call with a lone tensor.

    python -m benchmarks.handed [--quick]

Thirteen modules hand on a tensor and what is told; the same with the tensor alone. Each is recorded and dropped, as in
`overhead.py`, and measured against itself without tracing; the two take turns.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from time import thread_time_ns
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import contenders
from benchmarks.contenders import Contender, Step
from benchmarks.enough import Enough
from benchmarks.figures import Row, median
from benchmarks.interleaved import Found, Paired, Size, timed_ns, untraced_ns
from benchmarks.machine import old_objects_set_aside
from benchmarks.part import print_rows

_MODULES = 13
_BLOCK = Size(warm_up=12, timed=18)
_ALONE = "a lone tensor"
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


def per_call(pairs: Sequence[Paired]) -> list[float]:
    """Return microseconds that tracing adds to a call, forward and backward, once a round."""
    untraced = untraced_ns(pairs)
    return [pair.overhead(untraced) / _MODULES / 1e3 for pair in pairs]


def _pair(train: Step) -> Paired:
    before = _block(contenders.nothing, train)
    own = _block(contenders.recording, train)
    return Paired(own, (before + _block(contenders.nothing, train)) / 2)


def _block(contender: Contender, train: Step) -> float:
    with contender() as run:
        return timed_ns(run, train, _BLOCK, thread_time_ns)


def handed_on(enough: Enough) -> list[Row]:
    """Compare calls that hand on things with calls that hand on a lone tensor."""
    steps = {_ALONE: _step(), **{name: _step(things) for name, things in _THINGS.items()}}
    found: Found = {name: [] for name in steps}
    for train in steps.values():
        _pair(train)  # in which everything is done for the first time
    with old_objects_set_aside():
        for _ in enough.rounds(lambda: _rows(found)):
            for name, train in steps.items():
                found[name].append(_pair(train))
    return _rows(found)


COMPARISONS = (handed_on,)


def _rows(found: Found) -> list[Row]:
    lone = per_call(found[_ALONE])
    return [_row(name, lone, per_call(found[name])) for name in _THINGS]


def _row(name: str, lone: list[float], handed: list[float]) -> Row:
    more = median([with_it - without for with_it, without in zip(handed, lone, strict=True)])
    note = f"{statistics.median(lone):.2f} to {statistics.median(handed):.2f} µs"
    what = f"a module call that hands on {name} too, beside a lone tensor"
    return Row(what, _BAR_US, "µs", more, added=True, note=note)


if __name__ == "__main__":
    print_rows(__doc__, COMPARISONS)
