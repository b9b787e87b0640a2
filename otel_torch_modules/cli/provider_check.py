"""Which tracer provider the spans of a program that is started here would go to."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec

from otel_torch_modules.cli.examined import Examined

_SUBJECT = "provider"
_CHOICE = "OTEL_PYTHON_TRACER_PROVIDER"
_WRAPPERS = {"logfire": "logfire.configure()", "ddtrace": "DD_TRACE_OTEL_ENABLED"}


def examine_provider(environ: Mapping[str, str]) -> Iterator[Examined]:
    """Yield what is known of it before the program runs.

    Under ``opentelemetry-instrument`` one is there already, in this very process.
    """
    # Where the variable chooses one, to ask for it would make it, for the whole process.
    found = None if _CHOICE in os.environ else _here()
    if found is not None:
        yield Examined(_SUBJECT, found)
    elif environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        yield Examined(_SUBJECT, "none: OTEL_SDK_DISABLED")
    elif environ.get(_CHOICE):
        yield Examined(_SUBJECT, f"{environ[_CHOICE]}, by {_CHOICE}")
    elif environ.get("OTEL_CONFIG_FILE"):
        yield Examined(_SUBJECT, "the program's own, or what the SDK makes of OTEL_CONFIG_FILE")
    else:
        yield Examined(_SUBJECT, "the program's own, or one made from the OTEL_* variables")
    for package, how in _WRAPPERS.items():
        if find_spec(package) is not None:
            yield Examined(
                package, f"is installed: it wraps the SDK's provider where {how} is used"
            )


def _here() -> str | None:
    api = sys.modules.get("opentelemetry.trace")
    if api is None:
        return None
    provider = api.get_tracer_provider()
    if type(provider) is api.ProxyTracerProvider:
        return None
    if _is_of_sdk(provider):
        return _name(provider)
    wrapped = next(filter(_is_of_sdk, vars(provider).values()), None)
    return f"{_name(provider)}, which " + (
        "has nothing of the SDK: spans get ids of its own"
        if wrapped is None
        else f"wraps {_name(wrapped)}"
    )


def _is_of_sdk(provider: object) -> bool:
    return any(
        base.__module__.startswith("opentelemetry.sdk.") and base.__name__ == "TracerProvider"
        for base in type(provider).__mro__
    )


def _name(provider: object) -> str:
    return f"{type(provider).__module__}.{type(provider).__qualname__}"
