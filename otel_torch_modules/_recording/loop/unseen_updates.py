"""Whether a module's parameters were updated though no optimizer was seen to step: its step is compiled.

Dynamo traces through the hooks of optimizers, which then leave nothing in what it compiles. What an update leaves is
the version of each tensor that it changed.
"""

from __future__ import annotations

import weakref
from typing import Final

from torch import Tensor, nn

from otel_torch_modules._recording.torch_private.compilation import dynamo_is_there
from otel_torch_modules._recording.torch_private.tensors import torch_function_modes, versions_of

_WATCHED: Final = 8  # parameters: one of them may be in no optimizer


class UnseenUpdates:
    """Remembers how some of a module's parameters were, while Dynamo is there."""

    def __init__(self) -> None:
        self._root: weakref.ref[nn.Module] | None = None
        self._watched: list[weakref.ref[Tensor]] = []
        self._version = 0

    def remember(self, root: nn.Module | None) -> None:
        """Take note of how the parameters of `root` are now."""
        if not dynamo_is_there() or root is None or torch_function_modes():
            self._root, self._watched = None, []
        elif self._root is None or self._root() is not root:
            self._root = weakref.ref(root)
            # Subclasses may do anything where they are looked at.
            plain = (one for one in root.parameters() if type(one) is nn.Parameter)
            trained = [one for one in plain if one.requires_grad]
            trained.sort(
                key=lambda one: one.grad is None
            )  # what has no gradient may never have one
            self._watched = [weakref.ref(one) for one in trained[:_WATCHED]]
        self._version = versions_of(self._watched)

    def updated(self) -> bool:
        """Return whether they are other ones since."""
        return versions_of(self._watched) > self._version
