"""JSON that others have written, of whatever numbers and depth."""

from __future__ import annotations

import json
import re
from typing import Any

_INTEGER = re.compile(r"-?[0-9]{1,20}", re.ASCII)


def loads(text: str | bytes) -> Any:
    """Return what JSON says, whatever numbers it has: in a field that nobody reads a long one does no harm.

    Raises:
        ValueError: it is no JSON, or nested deeper than Python reads.
    """
    try:
        return json.loads(text, parse_int=_any_length)
    except RecursionError:
        raise ValueError("too deep") from None


def documents(text: str) -> list[Any]:
    """Return what documents say that come one after the other.

    Raises:
        ValueError: one of them is no JSON, or nested deeper than Python reads.
    """
    text, at, found = text.strip(), 0, []
    try:
        while at < len(text):
            document, at = _DECODER.raw_decode(text, at)
            found.append(document)
            while at < len(text) and text[at].isspace():
                at += 1
    except RecursionError:
        raise ValueError("too deep") from None
    return found


def _any_length(digits: str) -> float:
    # Python refuses to read thousands of digits, but not as what is no whole number.
    return int(digits) if _INTEGER.fullmatch(digits) else float(digits)


_DECODER = json.JSONDecoder(parse_int=_any_length)
