"""Whether parameters were updated though no optimizer was seen to step: its step is compiled.

Dynamo traces through the hooks of optimizers, which then leave nothing in what it compiles.
"""

from __future__ import annotations

from typing import Final
from weakref import ref

from torch import nn

from otel_torch_modules._recording.loop.watched_parameters import WatchedParameters, trained
from otel_torch_modules._recording.torch_private.tensors import torch_function_modes

_WATCHED: Final = 8  # parameters: one of them may be in no optimizer

_Places = list[tuple[ref[nn.Module], str]]


class UnseenUpdates:
    """Remembers how some parameters of the modules that a step calls were."""

    def __init__(self) -> None:
        self._roots: list[ref[nn.Module]] = []
        self._places: _Places = []
        self._parameters = WatchedParameters()

    def remember(self, roots: list[nn.Module]) -> None:
        """Take note of how the parameters of `roots` are now."""
        if torch_function_modes():
            self._roots, self._places = [], []
        elif not _are(self._roots, roots):
            self._roots, self._places = [ref(root) for root in roots], _places(roots)
        self._parameters.remember(self._watched())

    def updated(self) -> bool:
        """Return whether they are other ones since."""
        return self._parameters.changed(self._watched())

    def _watched(self) -> list[nn.Parameter]:
        there = [(place(), name) for place, name in self._places]
        return trained([_own(module).get(name) for module, name in there if module is not None])


def _own(module: nn.Module) -> dict[str, nn.Parameter | None]:
    """Return the parameters of `module` itself by their names."""
    return vars(module).get("_parameters") or {}


def _are(known: list[ref[nn.Module]], modules: list[nn.Module]) -> bool:
    return len(known) == len(modules) and all(
        one() is module for one, module in zip(known, modules, strict=True)
    )


def _places(roots: list[nn.Module]) -> _Places:
    """Return where the parameters of `roots` are that are looked at."""
    found = [
        (one.grad is None, ref(module), name)
        for root in roots
        for module in root.modules()
        for name, held in _own(module).items()
        for one in trained([held])
    ]
    # What has no gradient may never have one.
    found.sort(key=lambda place: place[0])
    return [(module, name) for _, module, name in found[:_WATCHED]]
