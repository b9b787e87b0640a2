"""The process's global providers, where the variables that choose them can be obeyed.

Where ``OTEL_PYTHON_TRACER_PROVIDER`` or ``OTEL_PYTHON_METER_PROVIDER`` names what cannot be used, the API raises,
and logs a traceback, each time that it is asked. It is not asked again then: there is none unless the program sets one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from inspect import signature
from typing import Any, TypeVar

from opentelemetry import metrics, trace
from opentelemetry.environment_variables import (
    OTEL_PYTHON_METER_PROVIDER,
    OTEL_PYTHON_TRACER_PROVIDER,
)
from opentelemetry.sdk.trace import TracerProvider

from otel_torch_modules import _odd_values
from otel_torch_modules._emission import sdk
from otel_torch_modules._entry_points import Use
from otel_torch_modules._heard_already import heard_already
from otel_torch_modules._standard_variables import PROVIDER_RULES

_Provider = TypeVar("_Provider")

# By variable: what has been named there so far and can, or cannot, be used.
_usable: dict[tuple[str, str], bool] = {}


def tracer_provider() -> trace.TracerProvider | None:
    """Return what the API returns; None where it would raise."""
    if sdk.api._TRACER_PROVIDER is not None:
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
    if key not in _usable:
        read = _odd_values.read(os.environ, {variable: PROVIDER_RULES[variable]})
        _odd_values.log(read.odd)
        _usable[key] = variable in read.values
    if _usable[key]:
        with heard_already():
            found = Use(variable, name, ask).result()
        _usable[key] = found is not None
        return found
    return None
