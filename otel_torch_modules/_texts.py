"""Texts of the program's as they can be sent: in UTF-8, and of bounded length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from otel_torch_modules._records import Raised
from otel_torch_modules._stack_trace import class_name, stack_trace, text_of

MOST_CHARACTERS: Final = 10_000
"""Of an exception's message, and of its stack trace: a collector takes requests of 4 MiB, and texts wait in memory."""

# Of an integer of OTLP's beside its sign; but for one, which has one bit more.
_MOST_BITS: Final = 63
_LEAST: Final = -(1 << 63)
_WRITTEN_BITS: Final = (
    1_000  # Python writes longer ones in digits only up to a length that may be set
)

_LEFT_OUT = "\n…\n"


def encodable(text: str) -> str:
    """Return `text` with U+FFFD for what UTF-8 has no bytes for.

    That is surrogates without their other half. Python makes them of bytes that are no UTF-8 where it reads file names,
    arguments and variables of the environment; and any module may be called so.

    Example:
        >>> encodable(b"caf\\xe9".decode("utf-8", "surrogateescape")) == "caf\N{REPLACEMENT CHARACTER}"
        True
    """
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def encodable_value(value: Any) -> Any:
    """Return the value of an attribute with all texts in it `encodable`, and integers of more than 64 bits as texts."""
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, int) and value.bit_length() > _MOST_BITS and value != _LEAST:
        return str(value) if value.bit_length() < _WRITTEN_BITS else hex(value)
    if isinstance(value, (list, tuple)):
        return (*map(encodable_value, value),)
    if isinstance(value, Mapping):
        return encodable_attributes(value)
    return value


def encodable_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `attributes` with all texts in them `encodable`."""
    return {encodable(name): encodable_value(value) for name, value in attributes.items()}


def error_type(error: BaseException) -> str:
    """Return the name of the class of `error`, for ``error.type``.

    Example:
        >>> error_type(OSError())
        'OSError'
    """
    name = type(error).__qualname__
    # Who counts an error calls as little as can be.
    return name if name.isascii() else encodable(name)


NO_ROOM: Final = Raised("", "the stack was full: there was no room to say what was raised", "")
"""Of an error of which nothing can be said where it was raised."""


def describe_error(error: BaseException, with_stacktrace: bool) -> Raised:
    """Return type, message and, where asked for, stack trace of `error`: kept itself, it would keep tensors alive.

    What is longer than `MOST_CHARACTERS` is cut: a message at its end, a stack trace in its middle.
    """
    message = whole = text_of(error)
    if len(whole) > MOST_CHARACTERS:
        message = whole[: MOST_CHARACTERS - 1] + "…"
    whole_trace = stacktrace = ""
    if with_stacktrace:
        whole_trace = stack_trace(error)
        stacktrace = _without_middle(whole_trace)
    truncated = message is not whole or stacktrace is not whole_trace
    return Raised(
        encodable(class_name(error)), encodable(message), encodable(stacktrace), truncated
    )


def _without_middle(text: str) -> str:
    if len(text) <= MOST_CHARACTERS:
        return text
    half = (MOST_CHARACTERS - len(_LEFT_OUT)) // 2
    return text[:half] + _LEFT_OUT + text[-half:]
