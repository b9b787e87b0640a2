"""Leaves out what OpenTelemetry says of values that it cannot read, where a line of ours names them already.

It says so in lines of its own, some with a traceback, some once for each reading, and of headers with what is in them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_LOGGERS: Final = tuple(
    [
        logging.getLogger(f"opentelemetry.{name}")
        for name in (
            "attributes",
            "context",
            "exporter.otlp.common._aggregation",
            "exporter.otlp.proto.common._internal.metrics_encoder",
            "propagate",
            "sdk.environment_variables._internal",
            "sdk.resources",
            "util._providers",
            "util.re",
        )
    ]
)


@contextmanager
def heard_already() -> Iterator[None]:
    """Leave it out for the moment that something is made: a resource's detectors work in threads of their own."""
    for logger in _LOGGERS:
        logger.addFilter(_is_new)
    try:
        yield
    finally:
        for logger in _LOGGERS:
            logger.removeFilter(_is_new)


def _is_new(_: logging.LogRecord) -> bool:
    return False
