"""The variables of OpenTelemetry that a tracer or meter provider of ours obeys, and what each may say.

In an order: what a variable may say can depend on those above it. Those of logs are the program's alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from otel_torch_modules import _otlp_values as otlp
from otel_torch_modules._entry_points import GROUPS
from otel_torch_modules._interruption import suppressed
from otel_torch_modules._odd_values import (
    BOOLEAN,
    LIMIT,
    Left,
    Readable,
    Rule,
    all_installed,
    choice,
    installed,
    positive,
    read,
    refused,
    shown,
    whole,
)
from otel_torch_modules._secrets import is_secret

RATIO_SAMPLERS: Final = ("traceidratio", "parentbased_traceidratio")
SAMPLERS: Final = (
    "always_on",
    "always_off",
    "parentbased_always_on",
    "parentbased_always_off",
    *RATIO_SAMPLERS,
)

# Earlier versions of the SDK would go by the other variables, those of logs too.
_READS_FILES: Final = (1, 43)
_QUEUE: Final = "OTEL_BSP_MAX_QUEUE_SIZE"
_SECONDS: Final = positive("seconds", "10")
_MILLISECONDS: Final = positive("milliseconds", "30000")


def _config_file(name: str, value: str, _: Mapping[str, str]) -> Left:
    with suppressed(PackageNotFoundError):  # `doctor` is asked there too
        sdk = version("opentelemetry-sdk")
        if tuple([int(number) for number in re.findall(r"\d+", sdk)[:2]]) < _READS_FILES:
            return Left(
                "", f"{name} is not known to opentelemetry-sdk {sdk}, but to 1.43 and later"
            )
    if os.path.isfile(value) and os.access(value, os.R_OK):
        return Left(value)
    return Left("", f"{name}={shown(name, value)[1:-1]} is no file that can be read")


def _sampler_argument(name: str, value: str, values: Mapping[str, str]) -> Left:
    """Leave a ratio; what the argument of another sampler may be only that sampler knows."""
    if values.get("OTEL_TRACES_SAMPLER") not in RATIO_SAMPLERS:
        return Left(value)
    with suppressed(ValueError):
        if 0 <= float(value) <= 1:
            return Left(value)
    return refused(name, value, "a number from 0 to 1")


def _batch_size(name: str, value: str, values: Mapping[str, str]) -> Left:
    left = whole(1)(name, value, values)
    queue = values.get(_QUEUE)
    if left.value and queue and int(left.value) > int(queue):
        return refused(name, value, f"at most {_QUEUE}, which is {queue}")
    return left


def _attributes(name: str, value: str, _: Mapping[str, str]) -> Left:
    """Leave all: the SDK takes the pairs and leaves the rest."""
    odd = [
        item for item in value.split(",") if not item.partition("=")[0].strip() or "=" not in item
    ]
    if not odd:
        return Left(value)
    # A password in a URL may have commas.
    is_hidden = is_secret(value) or "://" in value
    part = "one of its items (not shown)" if is_hidden else shown(name, ",".join(odd))
    return Left(value, f"{name}: {part} is not allowed; it must be key=value pairs with commas")


def _otlp_rules(signal: str) -> dict[str, Rule]:
    prefix = f"OTEL_EXPORTER_OTLP_{signal}"
    return {
        f"{prefix}ENDPOINT": otlp.endpoint,
        f"{prefix}INSECURE": BOOLEAN,
        f"{prefix}HEADERS": otlp.headers,
        f"{prefix}TIMEOUT": _SECONDS,
        f"{prefix}COMPRESSION": otlp.compression,
        f"{prefix}CERTIFICATE": otlp.certificate,
        f"{prefix}CLIENT_KEY": otlp.pem,
        f"{prefix}CLIENT_CERTIFICATE": otlp.client_certificate,
    }


API_RULES: Final[dict[str, Rule]] = {
    "OTEL_PYTHON_CONTEXT": installed(),
    "OTEL_PROPAGATORS": all_installed(nothing="none"),
}
"""Of those that OpenTelemetry's API reads when it is imported."""

PROVIDER_RULES: Final[dict[str, Rule]] = {
    "OTEL_PYTHON_TRACER_PROVIDER": installed(),
    "OTEL_PYTHON_METER_PROVIDER": installed(),
}
"""Of those that it reads when it is asked for a provider of the process's."""

LIMIT_RULES: Final[dict[str, Rule]] = dict.fromkeys(
    (
        "OTEL_ATTRIBUTE_COUNT_LIMIT",
        "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
        "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT",
        "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT",
        "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
        "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
        "OTEL_SPAN_EVENT_COUNT_LIMIT",
        "OTEL_SPAN_LINK_COUNT_LIMIT",
    ),
    LIMIT,
)

_RULES: Final[dict[str, Rule]] = {
    **API_RULES,
    "OTEL_CONFIG_FILE": _config_file,
    "OTEL_SDK_DISABLED": BOOLEAN,
    **PROVIDER_RULES,
    "OTEL_PYTHON_ID_GENERATOR": installed(),
    "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED": BOOLEAN,
    "OTEL_RESOURCE_ATTRIBUTES": _attributes,
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": all_installed("*"),
    "OTEL_TRACES_SAMPLER": installed(*SAMPLERS),
    "OTEL_TRACES_SAMPLER_ARG": _sampler_argument,
    **LIMIT_RULES,
    _QUEUE: whole(1),
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": _batch_size,
    "OTEL_BSP_SCHEDULE_DELAY": whole(1),
    "OTEL_BSP_EXPORT_TIMEOUT": whole(0),
    "OTEL_TRACES_EXPORTER": all_installed(
        *otlp.OTLP_EXPORTERS,
        "otlp_file",
        "console",
        nothing="none",
    ),
    "OTEL_METRICS_EXPORTER": all_installed(*otlp.OTLP_EXPORTERS, "console", nothing="none"),
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": otlp.PROTOCOL,
    "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": otlp.PROTOCOL,
    "OTEL_EXPORTER_OTLP_PROTOCOL": otlp.PROTOCOL,
    **{name: installed() for name in GROUPS if name.endswith("_CREDENTIAL_PROVIDER")},
    **_otlp_rules(""),
    **_otlp_rules("TRACES_"),
    **_otlp_rules("METRICS_"),
    "REQUESTS_CA_BUNDLE": otlp.bundle,
    "CURL_CA_BUNDLE": otlp.bundle,
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": choice("CUMULATIVE", "DELTA", "LOWMEMORY"),
    "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": choice(
        "explicit_bucket_histogram", "base2_exponential_bucket_histogram"
    ),
    "OTEL_METRICS_EXEMPLAR_FILTER": choice("always_on", "always_off", "trace_based"),
    "OTEL_METRIC_EXPORT_INTERVAL": _MILLISECONDS,
    "OTEL_METRIC_EXPORT_TIMEOUT": _MILLISECONDS,
}


# Named where the API is first asked for what they choose.
_OF_OTHERS: Final = (*API_RULES, *PROVIDER_RULES)


def read_standard(environ: Mapping[str, str]) -> Readable:
    """Return what is left of OpenTelemetry's variables in `environ`, and what is not.

    Example:
        >>> read_standard({"OTEL_EXPORTER_OTLP_TIMEOUT": "soon"}).odd[0].sentence
        "OTEL_EXPORTER_OTLP_TIMEOUT: 'soon' is not allowed; it must be a number of seconds above 0, as in 10"
    """
    return read(environ, _RULES)


def is_of_traces(name: str) -> bool:
    """Return whether a tracer provider of ours reads a variable, or what comes with it."""
    return name not in _OF_OTHERS and not is_of_metrics(name)


def is_of_metrics(name: str) -> bool:
    """Return whether a variable says something of metrics alone."""
    return "_METRIC" in name and name != "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED"
