"""Whether parameters were changed since somebody looked at them: what a change leaves is the version of each."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from torch import Tensor, nn

from otel_torch_modules._recording.torch_private.tensors import torch_function_modes, versions_of

_Owner = TypeVar("_Owner")


class WatchedParameters(Generic[_Owner]):
    """Remembers how some parameters of their last owner were.

    Args:
        choose: returns which of an owner's are looked at; they stay the same as long as the owner does.
    """

    def __init__(self, choose: Callable[[_Owner], Iterable[nn.Parameter]]) -> None:
        self._choose = choose
        self._owner: weakref.ref[_Owner] | None = None
        self._watched: list[weakref.ref[Tensor]] = []
        self._version = 0

    def remember(self, owner: _Owner | None) -> None:
        """Take note of how those of `owner` are now."""
        if owner is None or torch_function_modes():
            self._owner, self._watched = None, []
        elif self._owner is None or self._owner() is not owner:
            self._owner = weakref.ref(owner)
            self._watched = [weakref.ref(one) for one in self._choose(owner)]
        self._version = versions_of(self._watched)

    def changed(self) -> bool:
        """Return whether they are other ones since."""
        return not torch_function_modes() and versions_of(self._watched) > self._version


def trained(parameters: Iterable[Tensor]) -> Iterator[nn.Parameter]:
    """Yield those that are trained, but no subclasses: they may do anything where they are looked at."""
    return (one for one in parameters if type(one) is nn.Parameter and one.requires_grad)
