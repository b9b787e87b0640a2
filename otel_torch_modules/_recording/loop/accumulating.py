"""Whether there is an optimizer that accumulates a root module's gradients.

A loop that updates its parameters by hand, or by a class of its own, looks like one that accumulates until its
optimizer steps. What tells them apart is that no ``torch.optim`` optimizer lives that holds these parameters.
"""

from __future__ import annotations

import gc
import weakref

from torch import nn
from torch.optim import Optimizer


class Accumulating:
    """Knows the optimizer of the root that was asked for last; looks for it once."""

    def __init__(self) -> None:
        self._root: weakref.ref[nn.Module] | None = None
        self._optimizer: weakref.ref[Optimizer] | None = None

    def stepped(self, optimizer: Optimizer, root: nn.Module | None) -> None:
        """Take note that `optimizer` has stepped in a step of `root`."""
        if root is not None:
            self._root, self._optimizer = weakref.ref(root), weakref.ref(optimizer)

    def holds(self, root: nn.Module) -> bool:
        """Return whether an optimizer lives that holds parameters of `root`, or has stepped in its last step."""
        if (
            self._root is not None
            and self._root() is root
            and self._optimizer is not None
            and self._optimizer() is not None
        ):
            return True
        holder = _holder(root)
        if holder is not None:
            self._root, self._optimizer = weakref.ref(root), weakref.ref(holder)
        return holder is not None


def _holder(root: nn.Module) -> Optimizer | None:
    # Every object there is, once: 50 ms where there are a million. By its type: a proxy's `__class__` is the program's.
    optimizers = [found for found in gc.get_objects() if issubclass(type(found), Optimizer)]
    holders = {
        id(parameter): optimizer
        for optimizer in optimizers
        for group in getattr(optimizer, "param_groups", ())
        for parameter in group["params"]
    }
    return next(
        (holders[id(parameter)] for parameter in root.parameters() if id(parameter) in holders),
        None,
    )
