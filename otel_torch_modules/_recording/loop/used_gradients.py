"""Whether gradients were used though no optimizer has stepped: the program changes parameters by them.

Sharpness-aware minimization climbs along them and takes new ones there, extragradient methods look ahead: two backward
passes a step, and gradients dropped between.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import Final

from torch import nn
from torch.optim import Optimizer

from otel_torch_modules._recording.loop.watched_parameters import WatchedParameters, trained
from otel_torch_modules._recording.torch_private.tensors import torch_function_modes

_LOOKED_AT: Final = 32  # of an optimizer's parameters
_WATCHED: Final = 4  # of these


class UsedGradients:
    """Remembers how the last optimizer left some of its parameters."""

    def __init__(self) -> None:
        self._parameters = WatchedParameters(_watched)

    def stepped(self, optimizer: Optimizer) -> None:
        """Take note that `optimizer` has."""
        self._parameters.remember(optimizer)

    def used(self) -> bool:
        """Return whether parameters were changed since an optimizer has stepped."""
        return not torch_function_modes() and self._parameters.changed()


def _watched(optimizer: Optimizer) -> Iterator[nn.Parameter]:
    held = chain.from_iterable(group["params"] for group in optimizer.param_groups)
    return islice(trained(islice(held, _LOOKED_AT)), _WATCHED)
