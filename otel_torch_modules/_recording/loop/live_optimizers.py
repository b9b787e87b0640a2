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

from otel_torch_modules._recording.loop.open_step import RootForward
from otel_torch_modules._recording.torch_private.tensors import without_torch_function
from otel_torch_modules._weak_table import WeakTable

_Held = list[tuple[weakref.ref[Optimizer], int]]


class LiveOptimizers:
    """Looks for them where that cannot be helped, for it takes 50 ms where there are a million objects."""

    def __init__(self) -> None:
        self.root: weakref.ref[nn.Module] | None = None
        """A root that one holds, as far as is known, or in whose step one has stepped last."""
        self.optimizer: weakref.ref[Optimizer] | None = None
        """That one."""
        self._known: list[weakref.ref[Optimizer]] | None = None  # None until they are looked for
        # What `train` has answered, and which optimizers held how many parameters then.
        self._trained = WeakTable[nn.Module, tuple[_Held, bool]]()

    def stepped(self, optimizer: Optimizer, roots: Sequence[RootForward]) -> None:
        """Take note that `optimizer` has stepped in a step with `roots`."""
        if roots:
            if all(root.module is not self.root for root in roots):
                self.root = roots[0].module
            self.optimizer = weakref.ref(optimizer)
        if self._known is not None and all(one() is not optimizer for one in self._known):
            self._known = [one for one in self._known if one() is not None]
            self._known.append(weakref.ref(optimizer))

    def hold(self, module: nn.Module, roots: Sequence[RootForward] = ()) -> bool:
        """Return whether one lives that holds parameters of `module` or of a module of `roots`, or has stepped in the
        last step of one of them.

        Also where they are computed from others now, as ``torch.func.functional_call`` puts them there for an inner
        loop: it is those that one may hold.
        """
        known = self.root if self.optimizer is not None and self.optimizer() is not None else None
        if known is not None and (known() is module or any(root.module is known for root in roots)):
            return True
        alive = [one for root in roots if (one := root.module()) is not None]
        modules = {id(one): one for one in (*alive, module)}.values()
        if any(_are_computed(one.parameters()) for one in modules):
            return True
        found = _find()
        self._known = [weakref.ref(optimizer) for optimizer in found]
        for one in modules:
            if (holder := _holder(one, found)) is not None:
                self.root, self.optimizer = weakref.ref(one), weakref.ref(holder)
                return True
        return False

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
