"""The door that needs no change to the program: torch calls :func:`autoload` at the end of ``import torch``.

torch (2.5 and later) loads every entry point of the group ``torch.backends`` there
(https://docs.pytorch.org/tutorials/unstable/python_extension_autoload.html) and lets what one raises
stop the import. So nothing is raised here, and nothing is imported while nobody asked for tracing.
"""

from __future__ import annotations

import os

from otel_torch_modules import _until_torch

_ENABLED = "OTEL_TORCH_MODULES_ENABLED"  # nothing more is imported to read it


def autoload() -> None:
    """Instrument this process if ``OTEL_TORCH_MODULES_ENABLED`` says so, or an instrumentor waits; never raise."""
    try:
        if _until_torch.start is None and not os.environ.get(_ENABLED):
            _look_for_misspelt()
        else:
            _instrument()
    except BaseException as error:
        if _is_interruption(error):
            raise
        _report("Modules are not traced", error)


def _is_interruption(error: BaseException) -> bool:
    from otel_torch_modules._interruption import is_interruption

    return is_interruption(error)


def _report(message: str, error: BaseException | None = None) -> None:
    import logging

    from otel_torch_modules._log import report

    report(logging.getLogger("otel_torch_modules"), message, error=error)


def _look_for_misspelt() -> None:
    """Say so where the very variable that asks for tracing has a letter wrong."""
    if not any(
        name.startswith("OTEL_TORCH") and "_E" in name and name != _ENABLED for name in os.environ
    ):
        return
    from otel_torch_modules import _misspelt

    found = _misspelt.misspelt(os.environ)
    _misspelt.log(one for one in found if one.meant == _ENABLED)


def _instrument() -> None:
    start, _until_torch.start = _until_torch.start, None
    if start is not None:
        start()
        return
    from otel_torch_modules.config import is_enabled

    try:
        enabled = is_enabled(os.environ)
    except ValueError as error:
        if _is_interruption(error):
            raise
        _report(f"Modules are not traced: {error}")
        return
    if enabled:
        from otel_torch_modules.instrumentor import instrument_once

        instrument_once()
