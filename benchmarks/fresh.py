"""How many times as long a step takes in which modules run that are new: experts, criteria, activations.

    python -m benchmarks.fresh [--quick]

Each loop is recorded and dropped, as in `overhead.py`, and measured against itself without tracing. What it costs must
not depend on the size of the model around.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import torch
from torch import Tensor, nn

from benchmarks import contenders
from benchmarks.contenders import Step
from benchmarks.enough import Enough
from benchmarks.figures import Row
from benchmarks.interleaved import Found, Paired, Size, compare, ratio, untraced_ns
from benchmarks.part import print_rows

_BAR = 2
# Blocks of three modules each: to look through them would take a millisecond, ten times as long as a step.
_LARGE = 3_000
_ACTIVATIONS = 200
_BLOCK = Size(warm_up=4, timed=6, after_collection=4)
# Of steps so short that to begin a block, where the model is large, takes as long as hundreds of them.
_LONG_BLOCK = Size(warm_up=10, timed=60, after_collection=8)


class Mixture(nn.Module):
    """A large model that gets another expert whenever it runs, and calls few of its modules.

    Args:
        blocks: how many it has that it does not call; three modules each.
    """

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.idle = nn.ModuleList(
            nn.Sequential(nn.Identity(), nn.Identity()) for _ in range(blocks)
        )
        self.inp = nn.Linear(8, 8)
        self.experts = nn.ModuleDict()
        self._names = map(str, count())

    def forward(self, x: Tensor) -> Tensor:
        """Return what the new expert makes of `x`."""
        name = next(self._names)
        self.experts[name] = nn.Linear(8, 8)
        return self.experts[name](self.inp(x))


class Beginners(nn.Module):
    """Makes its activations where it needs them."""

    def __init__(self) -> None:
        super().__init__()
        self.inp = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` after many activations."""
        x = self.inp(x)
        for _ in range(_ACTIVATIONS):
            x = nn.ReLU()(x)
        return x


def _experts() -> Step:
    model, batch = Mixture(_LARGE), torch.ones(2, 8)

    def run() -> None:
        model(batch).sum().backward()

    return run


def _criteria(blocks: int) -> Step:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    model.idle = nn.ModuleList(nn.Sequential(nn.Identity(), nn.Identity()) for _ in range(blocks))
    model.forward = lambda x: model[2](model[1](model[0](x)))  # type: ignore[method-assign]
    batch, target = torch.ones(2, 8), torch.zeros(2, 8)

    def run() -> None:
        nn.MSELoss()(model(batch), target).backward()

    return run


def _activations() -> Step:
    model, batch = Beginners(), torch.ones(2, 8)

    def run() -> None:
        model(batch).sum().backward()

    return run


def an_expert(enough: Enough) -> list[Row]:
    """Make an expert in each step."""
    what = "a new expert in each step, in a model of 9 000 modules"
    return _measured(what, _experts(), 1, enough)


def a_criterion(enough: Enough) -> list[Row]:
    """Make a criterion in each step."""
    return _measured("a new criterion in each step", _criteria(0), 1, enough)


def a_criterion_beside_many(enough: Enough) -> list[Row]:
    """Make a criterion in each step of a large model."""
    what = "a new criterion in each step, with a model of 9 000 modules"
    return _measured(what, _criteria(_LARGE), 1, enough)


def activations(enough: Enough) -> list[Row]:
    """Make activations in each step."""
    what = f"{_ACTIVATIONS} new activations in each step"
    return _measured(what, _activations(), _ACTIVATIONS, enough)


COMPARISONS = (an_expert, a_criterion, a_criterion_beside_many, activations)


def _measured(what: str, train: Step, fresh: int, enough: Enough) -> list[Row]:
    """Return the row of a loop; `fresh` modules are new in each of its steps."""

    def rows(found: Found) -> list[Row]:
        return [_row(what, fresh, found[""])]

    block = _LONG_BLOCK if fresh == 1 else _BLOCK
    compared = {"": contenders.recording}
    found = compare(compared, train, enough.until_known(rows), block)
    return rows(found)


def _row(what: str, fresh: int, pairs: Sequence[Paired]) -> Row:
    times, untraced = ratio(pairs), untraced_ns(pairs) / 1e3
    added = (times.value - 1) * untraced
    note = f"{added:+.0f} µs to {untraced:.0f} µs, {added / fresh:.1f} µs for each new module, all calls included"
    return Row(what, _BAR, "x", times, note=note)


if __name__ == "__main__":
    print_rows(__doc__, COMPARISONS)
