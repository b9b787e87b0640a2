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
    global waiting
    if waiting is None and not os.environ.get("OTEL_TORCH_MODULES_ENABLED"):
        return
    try:
        if waiting is not None:
            start, waiting = waiting, None
            start()
        else:
            from otel_torch_modules.instrumentor import instrument_from_environment

            instrument_from_environment()
    except Exception:
        import logging

        logging.getLogger("otel_torch_modules").exception("Modules are not traced")
