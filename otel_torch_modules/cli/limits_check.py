"""The limits that OpenTelemetry's variables set to what a span may carry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from otel_torch_modules.cli.examined import Examined


class _Limit(NamedTuple):
    of: str
    variables: tuple[str, ...]  # the first that is set counts; set to nothing it means no limit
    default: str


_COUNT = "OTEL_ATTRIBUTE_COUNT_LIMIT"
_LENGTH = "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"
# https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/#attribute-limits
_LIMITS = (
    _Limit("attributes", ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", _COUNT), "128"),
    _Limit("events", ("OTEL_SPAN_EVENT_COUNT_LIMIT",), "128"),
    _Limit("links", ("OTEL_SPAN_LINK_COUNT_LIMIT",), "128"),
    _Limit("attributes an event", ("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", _COUNT), "128"),
    _Limit("attributes a link", ("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", _COUNT), "128"),
    _Limit("characters a value", ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", _LENGTH), ""),
)


def examine_limits(environ: Mapping[str, str]) -> Iterator[Examined]:
    """Yield the limits in force as one finding; `environ` is without values that are not allowed."""
    in_force = []
    for limit in _LIMITS:
        name = next((name for name in limit.variables if name in environ), "")
        value = environ[name].strip() if name else limit.default
        in_force.append(f"{value or 'any'} {limit.of}")
    yield Examined("limits", "a span: " + ", ".join(in_force))
