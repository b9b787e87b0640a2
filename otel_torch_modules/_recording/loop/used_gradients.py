"""Whether gradients were used though no optimizer has stepped: the program changes parameters by them.

Sharpness-aware minimization climbs along them and takes new ones there, extragradient methods look ahead: two backward
passes a step, and gradients dropped between. What such a change leaves is the version of each parameter.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from itertools import chain, islice
from typing import Final

from torch import Tensor, nn
from torch.optim import Optimizer

from otel_torch_modules._recording.torch_private.tensors import torch_function_modes, versions_of

_LOOKED_AT: Final = 32  # of an optimizer's parameters
_WATCHED: Final = 4  # of these


class UsedGradients:
    """Remembers how the last optimizer left some of its parameters."""

    def __init__(self) -> None:
        self._optimizer: weakref.ref[Optimizer] | None = None
        self._watched: list[weakref.ref[Tensor]] = []
        self._version = 0

    def stepped(self, optimizer: Optimizer) -> None:
        """Take note that `optimizer` has."""
        if torch_function_modes():
            self._optimizer, self._watched = None, []
        elif self._optimizer is None or self._optimizer() is not optimizer:
            self._optimizer = weakref.ref(optimizer)
            self._watched = [weakref.ref(one) for one in islice(_trained(optimizer), _WATCHED)]
        self._version = versions_of(self._watched)

    def used(self) -> bool:
        """Return whether parameters were changed since an optimizer has stepped."""
        return not torch_function_modes() and versions_of(self._watched) > self._version


def _trained(optimizer: Optimizer) -> Iterator[Tensor]:
    held = chain.from_iterable(group["params"] for group in optimizer.param_groups)
    # Subclasses may do anything where they are looked at.
    return (
        one for one in islice(held, _LOOKED_AT) if type(one) is nn.Parameter and one.requires_grad
    )
