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

_LOOKED_AT: Final = 32  # of an optimizer's parameters
_WATCHED: Final = 4  # of these


class UsedGradients(WatchedParameters[Optimizer]):
    """Remembers how the optimizer that has stepped last left some of its parameters."""

    def __init__(self) -> None:
        super().__init__(_watched)


def _watched(optimizer: Optimizer) -> Iterator[nn.Parameter]:
    held = chain.from_iterable(group["params"] for group in optimizer.param_groups)
    return islice(trained(islice(held, _LOOKED_AT)), _WATCHED)
