"""What a program gives as the number of a step, as one that can be sent."""

from __future__ import annotations

import logging
import operator
from typing import Final, SupportsIndex

import torch
from torch import Tensor

from otel_torch_modules._allowed import shown
from otel_torch_modules._interruption import is_interruption, suppressed
from otel_torch_modules._log import warn
from otel_torch_modules._recording.torch_private.tensors import plain_sizes

logger = logging.getLogger("otel_torch_modules")

LEAST: Final = -(1 << 63)
MOST: Final = (1 << 63) - 1

_LONGEST: Final = 80  # characters of what is shown


class StepNumbers:
    """Reads numbers, and says once that something is none."""

    def __init__(self) -> None:
        self._said = False

    def read(self, given: SupportsIndex | None) -> int | None:
        """Return `given` as an integer; None for the next number, also where it is none that can be sent."""
        if given is None:
            return None
        number = _whole(given)
        if number is not None and LEAST <= number <= MOST:
            return number
        if not self._said:
            self._said = True
            warn(
                logger,
                "step: %s is not allowed; it must be an integer of 64 bits, which may be NumPy's or in a tensor on "
                "the CPU (one on a device would have to be waited for), or None: such steps are counted",
                _shown(given),
            )
        return None


def _whole(given: SupportsIndex) -> int | None:
    """Return `given` as an integer; None where it is none, or a device knows it."""
    if isinstance(given, bool):
        return None
    try:
        if not isinstance(given, Tensor):
            return int.__int__(operator.index(given))
        with plain_sizes():
            if given.device.type != "cpu" or given.dtype == torch.bool:
                return None
            return operator.index(given)
    except BaseException as error:
        if is_interruption(error):
            raise
        return None


def _shown(given: object) -> str:
    with suppressed(BaseException):
        if isinstance(given, Tensor):
            with plain_sizes():
                return f"a tensor of {given.dtype} on {given.device}"
    # To show another may take what it takes to read it.
    if not isinstance(given, (str, bytes, int, float)):
        return f"what is of type {type(given).__qualname__}"
    text = shown(given)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
