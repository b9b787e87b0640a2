"""Whether a module's parameters were updated though no optimizer was seen to step: its step is compiled.

Dynamo traces through the hooks of optimizers, which then leave nothing in what it compiles.
"""

from __future__ import annotations

from typing import Final

from torch import nn

from otel_torch_modules._recording.loop.watched_parameters import WatchedParameters, trained
from otel_torch_modules._recording.torch_private.compilation import dynamo_is_there

_WATCHED: Final = 8  # parameters: one of them may be in no optimizer


class UnseenUpdates:
    """Remembers how some of a module's parameters were, while Dynamo is there."""

    def __init__(self) -> None:
        self._parameters = WatchedParameters(_watched)

    def remember(self, root: nn.Module | None) -> None:
        """Take note of how the parameters of `root` are now."""
        self._parameters.remember(root if dynamo_is_there() else None)

    def updated(self) -> bool:
        """Return whether they are other ones since."""
        return self._parameters.changed()


def _watched(root: nn.Module) -> list[nn.Parameter]:
    found = [*trained(root.parameters())]
    found.sort(key=lambda one: one.grad is None)  # what has no gradient may never have one
    return found[:_WATCHED]
