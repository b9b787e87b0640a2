"""Whether parameters were changed since somebody looked at them: what a change leaves is the version of each.

None of them is held, not even weakly: ``torch.utils.swap_tensors``, by which modules are converted and loaded where the
program asks for that, takes no tensor that has a weak reference.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from otel_torch_modules._recording.torch_private.tensors import torch_function_modes, versions_of


class WatchedParameters:
    """Remembers how some parameters were."""

    def __init__(self) -> None:
        self._versions: dict[int, int] = {}

    def remember(self, parameters: Iterable[nn.Parameter]) -> None:
        """Take note of how `parameters` are now."""
        self._versions = versions_of(parameters)

    def changed(self, parameters: Iterable[nn.Parameter]) -> bool:
        """Return whether one of `parameters` is another than when it was remembered."""
        known = self._versions
        found = versions_of(parameters)
        return any(version > known.get(key, version) for key, version in found.items())


def trained(parameters: Iterable[object]) -> list[nn.Parameter]:
    """Return those that are trained, but no subclasses: they may do anything where they are looked at.

    None where the program's torch function modes would see that.
    """
    if torch_function_modes():
        return []
    return [one for one in parameters if type(one) is nn.Parameter and one.requires_grad]
