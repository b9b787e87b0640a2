"""The door that needs no change to the program: torch calls :func:`autoload` at the end of ``import torch``.

torch (2.5 and later) loads every entry point of the group ``torch.backends`` there
(https://docs.pytorch.org/tutorials/unstable/python_extension_autoload.html) and lets what one raises
stop the import. So nothing is raised here, and nothing is imported while nobody asked for tracing.
"""

from __future__ import annotations

import os
from collections.abc import Callable

waiting: Callable[[], None] | None = None
"""What an instrumentor that was there before torch wants to do once torch is."""


def autoload() -> None:
    """Instrument this process if ``OTEL_TORCH_MODULES_ENABLED`` says so, or an instrumentor waits; never raise."""
    if waiting is None and not os.environ.get("OTEL_TORCH_MODULES_ENABLED"):
        return
    try:
        _instrument()
    except Exception:
        import logging

        logging.getLogger("otel_torch_modules").exception("Modules are not traced")


def _instrument() -> None:
    global waiting
    if waiting is not None:
        start, waiting = waiting, None
        start()
        return
    from otel_torch_modules.config import is_enabled

    try:
        enabled = is_enabled(os.environ)
    except ValueError as error:
        import logging

        logging.getLogger("otel_torch_modules").error("Modules are not traced: %s", error)
        return
    if enabled:
        from otel_torch_modules.instrumentor import instrument_once

        instrument_once()
