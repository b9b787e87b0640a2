"""OpenTelemetry's base class of instrumentors, and its SDK, imported also where variables say what they cannot read.

Importing the class reads two variables. Of ``OTEL_PYTHON_CONTEXT`` a traceback is logged; for a name in
``OTEL_PROPAGATORS`` the import fails, though no propagator is needed here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

from otel_torch_modules import _odd_values
from otel_torch_modules._entry_points import entry_point, setting_up
from otel_torch_modules._heard_already import heard_already
from otel_torch_modules._interruption import is_interruption
from otel_torch_modules._standard_variables import API_RULES, LIMIT_RULES

_PROPAGATE = "opentelemetry.propagate"
_SDK = "opentelemetry.sdk.trace"
_SDK_LOGS = "opentelemetry.sdk._logs"
_DETECTORS = "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS"


def _base() -> Any:
    if not any(map(os.environ.get, API_RULES)):
        return _imported()
    with heard_already():
        _say_what_is_not_there()
        with _without_propagators():
            return _imported()


def _say_what_is_not_there() -> None:
    left, odd = _odd_values.read(os.environ, API_RULES)
    _odd_values.log(odd)
    for variable in API_RULES:
        for name in left.get(variable, "none").split(","):
            if name != "none":
                with setting_up(variable, name):
                    entry_point(variable, name).load()()


def _imported() -> Any:
    from opentelemetry.instrumentation.instrumentor import (  # type: ignore[attr-defined]
        BaseInstrumentor,
    )

    return BaseInstrumentor


@contextmanager
def _without_propagators() -> Iterator[None]:
    """Have something to import in place of a module that raises; a program that imports it gets its error."""
    try:
        import_module(_PROPAGATE)
    except BaseException as error:
        if is_interruption(error):
            raise
        stand_in: Any = ModuleType(_PROPAGATE)
        stand_in.extract = stand_in.inject = stand_in.get_global_textmap = _nothing
        sys.modules[_PROPAGATE] = stand_in
        try:
            yield
        finally:
            del sys.modules[_PROPAGATE]
        return
    yield


def _nothing(*_: Any, **__: Any) -> None:
    """Propagate nothing."""


BaseInstrumentor = _base()


@contextmanager
def sdk_importable() -> Iterator[None]:
    """Let the SDK be imported where a limit of spans is odd, or a detector of resources.

    It reads a limit at that very moment, and raises; what it has for logs asks the detectors, in this thread, which are
    asked again where a provider is made. So long, and only then, the process does without those variables.
    """
    names = [one.name for one in _odd_values.read(os.environ, LIMIT_RULES).odd]
    early = [] if _SDK in sys.modules else names
    early += [] if _SDK_LOGS in sys.modules else [_DETECTORS]
    taken = {name: os.environ.pop(name) for name in early if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(taken)
