"""A line of log that cannot hurt: what the program's handlers of logs raise is not for a step or the end to bear."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any


def warn(logger: logging.Logger, message: str, *arguments: Any) -> None:
    """Log `message` as a warning, and raise nothing."""
    with suppress(Exception):
        logger.warning(message, *arguments)
