"""The optimizers of torch's that live, and whether one holds a module's parameters.

A loop that updates its parameters by hand, or by a class of its own, looks like one that accumulates until its
optimizer steps. What tells them apart is that no ``torch.optim`` optimizer lives that holds these parameters. That also
tells a target network from one that is trained.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from otel_torch_modules._recording.torch_private.tensors import without_torch_function
from otel_torch_modules._weak_table import WeakTable

_Held = list[tuple[weakref.ref[Optimizer], int]]


class LiveOptimizers:
    """Looks for them where that cannot be helped, for it takes 50 ms where there are a million objects."""

    def __init__(self) -> None:
        self.root: weakref.ref[nn.Module] | None = None
        """The root that was asked for last, or that has been trained last."""
        self.optimizer: weakref.ref[Optimizer] | None = None
        """The one that holds its parameters, or has trained it."""
        self._known: list[weakref.ref[Optimizer]] | None = None  # None until they are looked for
        # What `train` has answered, and which optimizers held how many parameters then.
        self._trained = WeakTable[nn.Module, tuple[_Held, bool]]()

    def stepped(self, optimizer: Optimizer, root: weakref.ref[nn.Module] | None) -> None:
        """Take note that `optimizer` has stepped in a step of `root`."""
        if root is not None:
            self.root, self.optimizer = root, weakref.ref(optimizer)
        if self._known is not None and all(one() is not optimizer for one in self._known):
            self._known = [one for one in self._known if one() is not None]
            self._known.append(weakref.ref(optimizer))

    def hold(self, root: nn.Module) -> bool:
        """Return whether one lives that holds parameters of `root`, or has stepped in its last step.

        Also where they are computed from others now, as ``torch.func.functional_call`` puts them there for an inner
        loop: it is those that one may hold.
        """
        if (
            self.root is not None
            and self.root() is root
            and self.optimizer is not None
            and self.optimizer() is not None
        ):
            return True
        if _are_computed(root.parameters()):
            return True
        found = _find()
        self._known = [weakref.ref(optimizer) for optimizer in found]
        holder = _holder(root, found)
        if holder is not None:
            self.root, self.optimizer = weakref.ref(root), weakref.ref(holder)
        return holder is not None

    def train(self, module: nn.Module) -> bool:
        """Return whether one holds parameters of `module` that lived when this was first asked or has stepped since."""
        if self._known is None:
            self._known = [weakref.ref(optimizer) for optimizer in _find()]
        alive = [(one, optimizer) for one in self._known if (optimizer := one()) is not None]
        held = [(one, _parameters_held(optimizer)) for one, optimizer in alive]
        known = self._trained.get(module)
        if known is None or known[0] != held:  # else each step would walk through all modules
            known = held, _holder(module, [optimizer for _, optimizer in alive]) is not None
            self._trained.put(module, known)
        return known[1]


def _find() -> list[Optimizer]:
    # By its type: a proxy's `__class__` is the program's.
    return [found for found in gc.get_objects() if issubclass(type(found), Optimizer)]


def _are_computed(parameters: Iterable[Tensor]) -> bool:
    found = [*parameters]
    with without_torch_function():
        return not all(one.is_leaf for one in found)


def _holder(module: nn.Module, optimizers: list[Optimizer]) -> Optimizer | None:
    holders = {
        id(parameter): optimizer
        for optimizer in optimizers
        for group in _groups(optimizer)
        for parameter in group["params"]
    }
    return next(
        (holders[id(parameter)] for parameter in module.parameters() if id(parameter) in holders),
        None,
    )


def _groups(optimizer: Optimizer) -> Sequence[dict[str, Any]]:
    # One whose `__init__` has raised has none.
    found: Sequence[dict[str, Any]] = getattr(optimizer, "param_groups", ())
    return found


def _parameters_held(optimizer: Optimizer) -> int:
    return sum([len(group["params"]) for group in _groups(optimizer)])
