"""The root forwards of a step, in order, and what they say of its iterations."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

# As many of the last ones as any iteration has.
_LOOKED_AT = 64


class RootForward(NamedTuple):
    """A root forward in a step."""

    module: weakref.ref[nn.Module]
    start: int
    place: int  # of its first event in the log
    backwards: int  # how many had ended before it
    gradients: bool = True  # are on
    in_training: bool = True  # and it is in training mode, or known to be trained
    wants_gradient: bool = False  # with respect to what it was given, too


def modules_with_gradients(roots: Sequence[RootForward]) -> list[nn.Module]:
    """Return the modules of the last ones with gradients that live, each once, in order."""
    last = [root for root in roots[-_LOOKED_AT:] if root.gradients]
    alive = [module for root in last if (module := root.module()) is not None]
    return [*{id(module): module for module in alive}.values()]


def first_of_each_iteration(roots: Sequence[RootForward]) -> list[int]:
    """Return the places of the first one in training after each backward."""
    found: list[int] = []
    backwards = 0
    for number, root in enumerate(roots):
        if root.in_training and root.backwards > backwards:
            found.append(number)
            backwards = root.backwards
    return found


def micro_batches_of(roots: Sequence[RootForward]) -> int:
    """Return how many are of the first one's module.

    Where that is gone, others were made instead of it: one between two backward passes.
    """
    trained = [root for root in roots if root.in_training]
    first = (trained or roots)[0].module
    forwards = sum(root.module is first for root in trained)
    return (
        forwards
        if first() is not None
        else max(forwards, 1 + len(first_of_each_iteration(trained)))
    )
