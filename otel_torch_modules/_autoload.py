"""The door that needs no change to the program: torch calls :func:`autoload` at the end of ``import torch``.

torch (2.5 and later) loads every entry point of the group ``torch.backends`` there
(https://docs.pytorch.org/tutorials/unstable/python_extension_autoload.html) and lets what one raises
stop the import. So nothing is raised here, and nothing is imported while the variable is unset.
"""

from __future__ import annotations

import os


def autoload() -> None:
    """Instrument this process if ``OTEL_TORCH_MODULES_ENABLED`` is set; never raise."""
    if not os.environ.get("OTEL_TORCH_MODULES_ENABLED"):
        return
    try:
        from otel_torch_modules.instrumentor import instrument_from_environment

        instrument_from_environment()
    except Exception:
        import logging

        logging.getLogger(__name__).exception(
            "Modules are not traced: tracing could not be started"
        )
