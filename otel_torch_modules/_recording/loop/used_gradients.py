"""Whether gradients were used though no optimizer has stepped: the program changes parameters by them.

Sharpness-aware minimization climbs along them and takes new ones there, extragradient methods look ahead: two backward
passes a step, and gradients dropped between.
"""

from __future__ import annotations

from itertools import chain, islice
from typing import Final
from weakref import ref

from torch import nn
from torch.optim import Optimizer

from otel_torch_modules._recording.loop.watched_parameters import WatchedParameters, trained

_LOOKED_AT: Final = 32  # of an optimizer's parameters
_WATCHED: Final = 4  # of these


class UsedGradients:
    """Remembers how the optimizer that has stepped last left some of its parameters."""

    def __init__(self) -> None:
        self._optimizer: ref[Optimizer] | None = None
        self._parameters = WatchedParameters()

    def remember(self, optimizer: Optimizer) -> None:
        """Take note of how the parameters of `optimizer`, which has stepped, are now."""
        self._optimizer = ref(optimizer)
        self._parameters.remember(_watched(optimizer))

    def changed(self) -> bool:
        """Return whether they are other ones since."""
        optimizer = None if self._optimizer is None else self._optimizer()
        return optimizer is not None and self._parameters.changed(_watched(optimizer))


def _watched(optimizer: Optimizer) -> list[nn.Parameter]:
    held = chain.from_iterable([group["params"] for group in optimizer.param_groups])
    return trained(islice(held, _LOOKED_AT))[:_WATCHED]
