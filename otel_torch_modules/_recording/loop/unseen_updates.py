"""Whether parameters were updated though no optimizer was seen to step: its step is compiled.

Dynamo traces through the hooks of optimizers, which then leave nothing in what it compiles.
"""

from __future__ import annotations

from typing import Final
from weakref import ref

from torch import nn

from otel_torch_modules._recording.loop.watched_parameters import WatchedParameters, trained
from otel_torch_modules._recording.modules.module_tree import own_parameters
from otel_torch_modules._recording.modules.parameters import modules_of
from otel_torch_modules._weak_table import WeakTable

_WATCHED: Final = 8  # parameters of a module: one of them may be in no optimizer

_Places = list[tuple[ref[nn.Module], str]]


class UnseenUpdates:
    """Remembers how some parameters of the modules that a step calls were."""

    def __init__(self) -> None:
        self._places = WeakTable[nn.Module, _Places]()
        self._roots: list[ref[nn.Module]] = []
        self._parameters = WatchedParameters()

    def remember(self, roots: list[nn.Module]) -> None:
        """Take note of how the parameters of `roots` are now."""
        self._roots = [ref(root) for root in roots]
        self._parameters.remember(self._watched())

    def updated(self) -> bool:
        """Return whether they are other ones since."""
        return self._parameters.changed(self._watched())

    def _watched(self) -> list[nn.Parameter]:
        roots = [root for one in self._roots if (root := one()) is not None]
        there = [(place(), name) for root in roots for place, name in self._places_of(root)]
        return trained(
            [own_parameters(module).get(name) for module, name in there if module is not None]
        )

    def _places_of(self, root: nn.Module) -> _Places:
        known = self._places.get(root)
        if known is None:
            known = _places(root)
            if known:  # else it is none that is trained, or cannot be looked at now
                self._places.put(root, known)
        return known


def _places(root: nn.Module) -> _Places:
    """Return where the parameters of `root` are that are looked at."""
    found = [
        (one.grad is None, ref(module), name)
        for module in modules_of(root)
        for name, held in own_parameters(module).items()
        for one in trained([held])
    ]
    # What has no gradient may never have one.
    found.sort(key=lambda place: place[0])
    return [(module, name) for _, module, name in found[:_WATCHED]]
