"""What options may be, and how what they may not be is refused: in the same words wherever the value came from."""

from __future__ import annotations

import sys
from typing import Final, NoReturn

from otel_torch_modules._interruption import suppressed

PREFIX: Final = "OTEL_TORCH_MODULES_"
PHASES: Final = ("train", "eval")
DEVICE_TIMES: Final = ("off", "phases", "modules")
CAUSES: Final = ("compile", "gc", "checkpoint", "collective", "loop", "host", "memory")
SPAN_KINDS: Final = ("separate", "internal")
SERVICES: Final = ("one", "phases", "ranks")
SECONDS: Final = "a number of seconds, 0 for off, as in 60"
_LARGEST: Final = sys.float_info.max
FRACTION: Final = "a number above 0 and at most 1, as in 0.01"


def refuse(name: str, value: object, allowed: str) -> NoReturn:
    """Refuse the value of an option.

    Raises:
        ValueError: always; it names the option's variable, the value and what is allowed.
    """
    raise ValueError(f"{PREFIX}{name.upper()}: {shown(value)} is not allowed; it must be {allowed}")


def shown(value: object) -> str:
    """Return `value` as the program would write it, or what it is where it cannot be shown."""
    with suppressed(BaseException):
        return repr(value)
    if isinstance(value, int):  # Python writes none of more than 4 300 digits
        return f"an integer of {value.bit_length()} bits"
    return f"what is of type {type(value).__qualname__}"


def is_whole(value: object, least: int) -> bool:
    """Return whether `value` is an integer of at least `least`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_fraction(value: object) -> bool:
    """Return whether `value` is a `FRACTION`."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= 1


def is_finite(value: object) -> bool:
    """Return whether `value` is not negative, and a number that can be reckoned with, as `SECONDS` are."""
    return (
        isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= _LARGEST
    )
