"""A line of log that cannot hurt: neither by what the program's handlers raise, nor by what others put into it.

A receiver answers in its own words, a path and the errors of a client's are the user's: they end up in a terminal.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any, Final

from otel_torch_modules._interruption import suppressed
from otel_torch_modules._printable import printable
from otel_torch_modules._secrets import text_without_secrets
from otel_torch_modules._stack_trace import stack_trace
from otel_torch_modules._undisturbed import undisturbed

_LONGEST: Final = 2_000  # characters of a line
_LOOKED_AT: Final = 4 * _LONGEST
_MOST_LINES: Final = 400  # of a traceback


def inform(logger: logging.Logger, message: str, *arguments: Any) -> None:
    """Log `message` at level INFO, on one line, without secrets, and raise nothing."""
    _log(logger, logging.INFO, message, arguments)


def warn(logger: logging.Logger, message: str, *arguments: Any) -> None:
    """Do the same as a warning."""
    _log(logger, logging.WARNING, message, arguments)


def report(
    logger: logging.Logger, message: str, *arguments: Any, error: BaseException | None = None
) -> None:
    """Do the same as an error, followed by the traceback of `error`, which is without secrets too.

    It is text: who is given the exception prints what it says, and some what variables held.
    """
    _log(logger, logging.ERROR, message, arguments, error)


def _log(
    logger: logging.Logger,
    level: int,
    message: str,
    arguments: tuple[Any, ...],
    error: BaseException | None = None,
) -> None:
    if not logger.isEnabledFor(level):
        return
    with suppressed(BaseException):
        text = shown(message % arguments if arguments else message)
        trace = None
        if error is not None:
            trace = "\n".join(map(shown, _ends(stack_trace(error).splitlines())))
        undisturbed(partial(_hand_out, logger, level, text, trace))


def _hand_out(logger: logging.Logger, level: int, text: str, trace: str | None) -> None:
    line = logger.makeRecord(logger.name, level, __file__, 0, "%s", (text,), None)
    line.exc_text = trace
    logger.handle(line)


def shown(text: str) -> str:
    """Return what others say as a line of bounded length, without secrets, that a terminal can be given."""
    # More is looked at than is left: nothing is of use of a password that was cut in two.
    line = printable(text_without_secrets(text[:_LOOKED_AT]))
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"


def _ends(lines: list[str]) -> list[str]:
    """Return the first and the last of many lines: the text of an error may have as many as it likes."""
    left = len(lines) - _MOST_LINES
    if left <= 0:
        return lines
    half = _MOST_LINES // 2
    return [*lines[:half], f"… {left} more lines …", *lines[-half:]]
