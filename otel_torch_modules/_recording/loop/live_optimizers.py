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

from otel_torch_modules._recording.modules.parameters import parameters_of
from otel_torch_modules._recording.torch_private.tensors import without_torch_function
from otel_torch_modules._weak_table import WeakTable

_Held = list[tuple[weakref.ref[Optimizer], int]]


class LiveOptimizers:
    """Looks for them where that cannot be helped, for it takes 50 ms where there are a million objects."""

    def __init__(self) -> None:
        self.root: weakref.ref[nn.Module] | None = None
        """The root in whose step one has stepped last, or that was found last to be held."""
        self.optimizer: weakref.ref[Optimizer] | None = None
        """The one that has, or that holds it."""
        self._known: list[weakref.ref[Optimizer]] | None = None  # None until they are looked for
        # Those that have stepped in a step of a module, or hold it.
        self._holders = WeakTable[nn.Module, weakref.ref[Optimizer]]()
        # What `train` has answered, and which optimizers held how many parameters then.
        self._trained = WeakTable[nn.Module, tuple[_Held, bool]]()

    def stepped(self, optimizer: Optimizer, root: weakref.ref[nn.Module] | None) -> None:
        """Take note that `optimizer` has stepped in a step of `root`."""
        module = None if root is None else root()
        if module is not None:
            self._keep(module, optimizer)
        if self._known is not None and all(one() is not optimizer for one in self._known):
            self._known = [one for one in self._known if one() is not None]
            self._known.append(weakref.ref(optimizer))

    def live(self) -> bool:
        """Return whether there is any."""
        if not any(one() is not None for one in self._known or ()):
            self._known = [weakref.ref(optimizer) for optimizer in _find()]
        return bool(self._known)

    def have_gradients(self) -> bool:
        """Return whether one lives whose parameters have gradients: it may step by them yet."""
        known = [optimizer for one in self._known or () if (optimizer := one()) is not None]
        if any(_has_gradients(optimizer) for optimizer in known):
            return True
        found = _find()
        self._known = [weakref.ref(optimizer) for optimizer in found]
        return any(_has_gradients(optimizer) for optimizer in found)

    def held(self, modules: Sequence[nn.Module]) -> nn.Module | None:
        """Return the first of `modules` of which one holds parameters, or that one has stepped in a step of.

        Also where they are computed from others now, as ``torch.func.functional_call`` puts them there for an inner
        loop: it is those that one may hold.
        """
        for module in modules:
            holder = self._holders.get(module)
            if holder is not None and holder() is not None:
                return module
        for module in modules:
            if _are_computed(parameters_of(module)):
                return module
        found = _find()
        self._known = [weakref.ref(optimizer) for optimizer in found]
        for module in modules:
            holding = _holder(module, found)
            if holding is not None:
                self._keep(module, holding)
                return module
        return None

    def _keep(self, module: nn.Module, optimizer: Optimizer) -> None:
        self.root, self.optimizer = weakref.ref(module), weakref.ref(optimizer)
        known = self._holders.get(module)
        if known is None or known() is not optimizer:
            self._holders.put(module, self.optimizer)

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
        (holders[id(parameter)] for parameter in parameters_of(module) if id(parameter) in holders),
        None,
    )


def _has_gradients(optimizer: Optimizer) -> bool:
    with without_torch_function():
        return any(
            parameter.grad is not None
            for group in _groups(optimizer)
            for parameter in group["params"]
        )


def _groups(optimizer: Optimizer) -> Sequence[dict[str, Any]]:
    # One whose `__init__` has raised has none.
    found: Sequence[dict[str, Any]] = getattr(optimizer, "param_groups", ())
    return found


def _parameters_held(optimizer: Optimizer) -> int:
    return sum([len(group["params"]) for group in _groups(optimizer)])
