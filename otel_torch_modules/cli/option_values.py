"""What may be given to an option: what a text means, or an error that says what it is not."""

from __future__ import annotations

import argparse

from otel_torch_modules._control.request import MOST_STEPS
from otel_torch_modules._reading.query import UNITS_S
from otel_torch_modules.ranks import Ranks


def seconds(text: str) -> float:
    """Return how long that is."""
    number, unit = text[:-1], text[-1:]
    if not (number.isascii() and number.isdecimal()) or not int(number) or unit not in UNITS_S:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time as 30m, 1h or 2d")
    return float(int(number) * UNITS_S[unit])


def positive_integer(text: str) -> int:
    """Return an integer of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer of at least 1")
    return int(text)


def steps(text: str) -> int:
    """Return how many steps may be asked for at once."""
    asked = positive_integer(text)
    if asked > MOST_STEPS:
        raise argparse.ArgumentTypeError(f"{text!r} is more than {MOST_STEPS}")
    return asked


def ranks(text: str) -> str:
    """Return the text, if it names ranks."""
    try:
        Ranks(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def share(text: str) -> float:
    """Return a percentage as a share."""
    return _not_negative(text.removesuffix("%"), text, "percentage of at least 0, as 5%") / 100


def milliseconds(text: str) -> float:
    """Return a number of milliseconds."""
    return _not_negative(text, text, "number of milliseconds of at least 0")


def _not_negative(number: str, text: str, what: str) -> float:
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a {what}")
    return value
