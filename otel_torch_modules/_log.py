"""A line of log that cannot hurt: neither by what the program's handlers raise, nor by what others put into it.

A receiver answers in its own words, a path and the errors of a client's are the user's: they end up in a terminal.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

from otel_torch_modules._printable import printable
from otel_torch_modules._secrets import text_without_secrets


def warn(logger: logging.Logger, message: str, *arguments: Any) -> None:
    """Log `message` as a warning, on one line, without secrets, and raise nothing."""
    _log(logger, logging.WARNING, message, arguments)


def inform(logger: logging.Logger, message: str, *arguments: Any) -> None:
    """Do the same at level INFO."""
    _log(logger, logging.INFO, message, arguments)


def _log(logger: logging.Logger, level: int, message: str, arguments: tuple[Any, ...]) -> None:
    with suppress(Exception):
        text = message % arguments if arguments else message
        logger.log(level, "%s", printable(text_without_secrets(text)))
