"""The optimizers of torch's that live, and whether one holds a module's parameters.

A loop that updates its parameters by hand, or by a class of its own, looks like one that accumulates until its
optimizer steps. What tells them apart is that no ``torch.optim`` optimizer lives that holds these parameters. That also
tells a target network from one that is trained.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterable, Sequence
from time import perf_counter_ns as now
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from otel_torch_modules._recording.marks import node_of
from otel_torch_modules._recording.modules.looks import Looks
from otel_torch_modules._recording.modules.parameters import parameters_of
from otel_torch_modules._recording.torch_private.tensors import without_torch_function
from otel_torch_modules._weak_table import WeakTable

_Held = list[tuple[weakref.ref[Optimizer], int]]


class LiveOptimizers:
    """Looks for them where that cannot be helped, for it takes 50 ms where there are a million objects.

    An inner loop that updates a copy of the model by hand makes it look in each step, and nothing new is there: what is
    looked for in vain is taken to be still missing for as long as keeps that cheap.
    """

    def __init__(self) -> None:
        self.root: weakref.ref[nn.Module] | None = None
        """The root of the last step in which one has stepped."""
        self.optimizer: weakref.ref[Optimizer] | None = None
        """The one that has."""
        self._known: list[weakref.ref[Optimizer]] | None = None  # None until they are looked for
        self._in_vain = Looks()
        # Those that were found to hold parameters of a module.
        self._holding = WeakTable[nn.Module, weakref.ref[Optimizer]]()
        # What `train` has answered, and which optimizers held how many parameters then.
        self._trained = WeakTable[nn.Module, tuple[_Held, bool]]()

    def stepped(self, optimizer: Optimizer, root: weakref.ref[nn.Module] | None) -> None:
        """Take note that `optimizer` has stepped in a step of `root`."""
        if root is not None:
            self.root, self.optimizer = root, weakref.ref(optimizer)
        if self._known is not None and all(one() is not optimizer for one in self._known):
            self._known = [one for one in self._known if one() is not None]
            self._known.append(weakref.ref(optimizer))

    def live(self) -> bool:
        """Return whether there is any."""
        return bool(self._alive() or self._look())

    def held(self, modules: Iterable[nn.Module]) -> nn.Module | None:
        """Return the first of `modules` of which one holds parameters, or that one has stepped in the last step of.

        Also where they are computed from others now, as ``torch.func.functional_call`` puts them there for an inner
        loop: it is those that one may hold. No more of `modules` is taken than is needed.
        """
        asked = []
        for module in modules:
            if self._is_known_to_be_held(module):
                return module
            asked.append(module)
        for module in asked:
            if _are_computed(parameters_of(module)):
                return module
        holders = _holders(self._look())
        for module in asked:
            holder = _holder(module, holders)
            if holder is not None:
                self._holding.put(module, weakref.ref(holder))
                return module
        return None

    def may_step(self, modules: Iterable[nn.Module]) -> bool:
        """Return whether one may step yet where `modules` were called: it holds some, or has gradients of others."""
        return (
            _have_gradients(self._alive())
            or self.held(modules) is not None
            or _have_gradients(self._alive())  # those that were found just now
        )

    def _is_known_to_be_held(self, module: nn.Module) -> bool:
        is_last = self.root is not None and self.root() is module
        holder = self.optimizer if is_last else None
        if holder is None or holder() is None:
            holder = self._holding.get(module)
        return holder is not None and holder() is not None

    def _alive(self) -> list[Optimizer]:
        return [one for known in self._known or () if (one := known()) is not None]

    def _look(self) -> list[Optimizer]:
        began = now()
        alive = self._alive()
        if began < self._in_vain.due:
            return alive
        found = _find()
        if self._known is not None and len(found) <= len(alive):
            self._in_vain.took(began, now())
        else:
            self._in_vain = Looks()
        self._known = [weakref.ref(optimizer) for optimizer in found]
        return found

    def train(self, module: nn.Module) -> bool:
        """Return whether one holds parameters of `module` that lived when this was first asked or has stepped since."""
        if self._known is None:
            self._look()
        alive = [(weakref.ref(optimizer), optimizer) for optimizer in self._alive()]
        held = [(one, _parameters_held(optimizer)) for one, optimizer in alive]
        known = self._trained.get(module)
        if known is None or known[0] != held:  # else each step would walk through all modules
            holders = _holders([optimizer for _, optimizer in alive])
            known = held, _holder(module, holders) is not None
            self._trained.put(module, known)
        return known[1]


def _find() -> list[Optimizer]:
    # By its type: a proxy's `__class__` is the program's.
    return [found for found in gc.get_objects() if issubclass(type(found), Optimizer)]


def _are_computed(parameters: Iterable[Tensor]) -> bool:
    found = [*parameters]
    with without_torch_function():
        return any(node_of(one) is not None for one in found)


def _holders(optimizers: Sequence[Optimizer]) -> dict[int, Optimizer]:
    """Return by the ids of parameters who holds them."""
    return {
        id(parameter): optimizer
        for optimizer in optimizers
        for group in _groups(optimizer)
        for parameter in group["params"]
    }


def _holder(module: nn.Module, holders: dict[int, Optimizer]) -> Optimizer | None:
    held = (id(parameter) for parameter in parameters_of(module))
    return next((holders[key] for key in held if key in holders), None)


def _have_gradients(optimizers: list[Optimizer]) -> bool:
    with without_torch_function():
        return any(
            parameter.grad is not None
            for optimizer in optimizers
            for group in _groups(optimizer)
            for parameter in group["params"]
        )


def _groups(optimizer: Optimizer) -> Sequence[dict[str, Any]]:
    # One whose `__init__` has raised has none.
    found: Sequence[dict[str, Any]] = getattr(optimizer, "param_groups", ())
    return found


def _parameters_held(optimizer: Optimizer) -> int:
    return sum([len(group["params"]) for group in _groups(optimizer)])
