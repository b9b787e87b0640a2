"""The process's global providers, where the variables that choose them can be obeyed.

Where ``OTEL_PYTHON_TRACER_PROVIDER`` or ``OTEL_PYTHON_METER_PROVIDER`` names what cannot be loaded, the API raises,
and logs a traceback, each time that it is asked. It is not asked then: there is none unless the program sets one.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from importlib.metadata import entry_points
from inspect import signature
from typing import Any, TypeVar

from opentelemetry import metrics, trace
from opentelemetry.environment_variables import (
    OTEL_PYTHON_METER_PROVIDER,
    OTEL_PYTHON_TRACER_PROVIDER,
)
from opentelemetry.sdk.trace import TracerProvider

from otel_torch_modules._emission import sdk
from otel_torch_modules._interruption import is_interruption
from otel_torch_modules._log import report

_LOGGER = logging.getLogger(__name__)

_GROUPS = {
    OTEL_PYTHON_TRACER_PROVIDER: "opentelemetry_tracer_provider",
    OTEL_PYTHON_METER_PROVIDER: "opentelemetry_meter_provider",
}
_Provider = TypeVar("_Provider")

# By variable: what has been named there so far and can, or cannot, be loaded.
_loads: dict[tuple[str, str], bool] = {}


def tracer_provider() -> trace.TracerProvider | None:
    """Return what the API returns; None where it would raise."""
    if sdk.provider_is_set():
        return trace.get_tracer_provider()
    return _asked(OTEL_PYTHON_TRACER_PROVIDER, trace.get_tracer_provider)


def program_provider() -> trace.TracerProvider | None:
    """Return the tracer provider that the program has set, or a variable has chosen; None while there is none."""
    provider = tracer_provider()
    if provider is None or isinstance(provider, trace.ProxyTracerProvider):
        return None
    return unwrapped(provider)


def unwrapped(provider: trace.TracerProvider) -> trace.TracerProvider:
    """Return the SDK's provider that `provider` is a wrapper of, as Logfire's is; else `provider` itself.

    Its tracers are wrapped too, and make spans of their own times and ids alone.
    """
    if isinstance(provider, TracerProvider):
        return provider
    held = getattr(provider, "__dict__", {}).values()
    of_sdk = [found for found in held if isinstance(found, TracerProvider)]
    return of_sdk[0] if len(of_sdk) == 1 else provider


def meter_provider() -> metrics.MeterProvider | None:
    """Return what the API returns; None where it would raise."""
    if sdk.meter_provider_is_set():
        return metrics.get_meter_provider()
    return _asked(OTEL_PYTHON_METER_PROVIDER, metrics.get_meter_provider)


def given_meter_provider(made: Callable[..., Any]) -> dict[str, Any]:
    """Return the argument with which what is `made` asks for no meter provider, where there is none to be had."""
    if "meter_provider" not in signature(made).parameters or meter_provider() is not None:
        return {}
    return {"meter_provider": metrics.NoOpMeterProvider()}


def _asked(variable: str, ask: Callable[[], _Provider]) -> _Provider | None:
    name = os.environ.get(variable)
    if name is None:
        return ask()
    key = variable, name
    if key not in _loads:
        _loads[key] = bool(entry_points(group=_GROUPS[variable], name=name))
        if not _loads[key] and name.strip():
            _say(*key)
    if not _loads[key]:
        return None
    try:
        return ask()
    except Exception as error:
        if is_interruption(error):
            raise
        _loads[key] = False
        _say(*key)
        return None


def _say(variable: str, name: str) -> None:
    what = "spans are" if variable == OTEL_PYTHON_TRACER_PROVIDER else "metrics are"
    report(
        _LOGGER,
        "%s: %r is no provider that can be loaded; %s sent as if it were not set",
        variable,
        name,
        what,
    )
