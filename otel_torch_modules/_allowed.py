"""What options may be, and how what they may not be is refused: in the same words wherever the value came from."""

from __future__ import annotations

import math
from typing import Final, NoReturn

PREFIX: Final = "OTEL_TORCH_MODULES_"
PHASES: Final = ("train", "eval")
DEVICE_TIMES: Final = ("off", "phases", "modules")
CAUSES: Final = ("compile", "gc", "checkpoint", "collective", "loop", "host", "memory")
SPAN_KINDS: Final = ("separate", "internal")
SERVICES: Final = ("one", "phases", "ranks")
SECONDS: Final = "a number of seconds, 0 for off, as in 60"
FRACTION: Final = "a number above 0 and at most 1, as in 0.01"


def refuse(name: str, value: object, allowed: str) -> NoReturn:
    """Refuse the value of an option.

    Raises:
        ValueError: always; it names the option's variable, the value and what is allowed.
    """
    raise ValueError(f"{PREFIX}{name.upper()}: {value!r} is not allowed; it must be {allowed}")


def is_whole(value: object, least: int) -> bool:
    """Return whether `value` is an integer of at least `least`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_fraction(value: object) -> bool:
    """Return whether `value` is a `FRACTION`."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= 1


def is_finite(value: object) -> bool:
    """Return whether `value` is a number that is not negative and has an end, as `SECONDS` are."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf
