"""A line of log that cannot hurt: neither by what the program's handlers raise, nor by what others put into it.

A receiver answers in its own words, a path and the errors of a client's are the user's: they end up in a terminal.
"""

from __future__ import annotations

import logging
from typing import Any

from otel_torch_modules._interruption import suppressed
from otel_torch_modules._printable import printable
from otel_torch_modules._secrets import text_without_secrets
from otel_torch_modules._undisturbed import undisturbed


def inform(logger: logging.Logger, message: str, *arguments: Any) -> None:
    """Log `message` at level INFO, on one line, without secrets, and raise nothing."""
    _log(logger, logging.INFO, message, arguments)


def warn(logger: logging.Logger, message: str, *arguments: Any) -> None:
    """Do the same as a warning."""
    _log(logger, logging.WARNING, message, arguments)


def report(
    logger: logging.Logger, message: str, *arguments: Any, error: BaseException | None = None
) -> None:
    """Do the same as an error, with the traceback of `error`."""
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
    with suppressed(Exception):
        text = message % arguments if arguments else message
        line = printable(text_without_secrets(text))
        undisturbed(lambda: logger.log(level, "%s", line, exc_info=error))
