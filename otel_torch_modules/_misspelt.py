"""Variables that are set and mean nothing, and which one was meant.

Nobody reads a variable whose name has a letter wrong, and nobody would say so.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from otel_torch_modules import environment_variables
from otel_torch_modules._allowed import PREFIX
from otel_torch_modules._log import warn
from otel_torch_modules._printable import printable

OURS = tuple([name for name in vars(environment_variables) if name.startswith(PREFIX)])

_STANDARD_PREFIX = "OTEL_"
_OF_TESTS = PREFIX + "TEST_"  # where this project's own tests find their programs
_OTLP = (
    *("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY", "COMPRESSION", "ENDPOINT", "HEADERS"),
    *("INSECURE", "PROTOCOL", "TIMEOUT"),
)
_BATCHES = ("EXPORT_TIMEOUT", "MAX_EXPORT_BATCH_SIZE", "MAX_QUEUE_SIZE", "SCHEDULE_DELAY")
_LIMITS = ("ATTRIBUTE_COUNT_LIMIT", "ATTRIBUTE_VALUE_LENGTH_LIMIT")
# https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/, and Python's own.
STANDARD = (
    *(
        f"OTEL_EXPORTER_OTLP_{signal}{field}"
        for signal in ("", "TRACES_", "METRICS_", "LOGS_", "PROFILES_")
        for field in _OTLP
    ),
    *(f"OTEL_{processor}_{field}" for processor in ("BSP", "BLRP") for field in _BATCHES),
    *(f"OTEL_{of}{limit}" for of in ("", "SPAN_", "LOGRECORD_") for limit in _LIMITS),
    *(f"OTEL_{signal}_EXPORTER" for signal in ("TRACES", "METRICS", "LOGS")),
    "OTEL_CONFIG_FILE",
    "OTEL_ENTITIES",
    "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_EXPERIMENTAL_CONFIG_FILE",
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS",
    "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
    "OTEL_EXPORTER_PROMETHEUS_HOST",
    "OTEL_EXPORTER_PROMETHEUS_PORT",
    "OTEL_EXPORTER_ZIPKIN_ENDPOINT",
    "OTEL_EXPORTER_ZIPKIN_TIMEOUT",
    "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_LOG_LEVEL",
    "OTEL_METRICS_EXEMPLAR_FILTER",
    "OTEL_METRIC_EXPORT_INTERVAL",
    "OTEL_METRIC_EXPORT_TIMEOUT",
    "OTEL_PROPAGATORS",
    "OTEL_PYTHON_CONFIGURATOR",
    "OTEL_PYTHON_CONTEXT",
    "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS",
    "OTEL_PYTHON_DISTRO",
    "OTEL_PYTHON_ID_GENERATOR",
    "OTEL_PYTHON_LOGGER_PROVIDER",
    "OTEL_PYTHON_LOG_CORRELATION",
    "OTEL_PYTHON_LOG_FORMAT",
    "OTEL_PYTHON_LOG_LEVEL",
    "OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED",
    "OTEL_PYTHON_METER_PROVIDER",
    "OTEL_PYTHON_TRACER_CONFIGURATOR",
    "OTEL_PYTHON_TRACER_PROVIDER",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_SDK_DISABLED",
    "OTEL_SEMCONV_STABILITY_OPT_IN",
    "OTEL_SERVICE_NAME",
    "OTEL_SPAN_EVENT_COUNT_LIMIT",
    "OTEL_SPAN_LINK_COUNT_LIMIT",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
)

# Others have variables that begin with OTEL_ too: only what is nearly the name of one that is known is a mistake.
_NEARLY = 0.93

_logger = logging.getLogger("otel_torch_modules")
_logged: set[str] = set()


class Misspelt(NamedTuple):
    """A variable that nobody reads."""

    name: str
    meant: str  # empty where no name is near

    @property
    def sentence(self) -> str:
        """What is to be told."""
        of_us = " of otel-torch-modules" if self.name.upper().startswith(PREFIX) else ""
        meant = f"; {self.meant} is meant?" if self.meant else ""
        return f"{printable(self.name)} is not a variable{of_us}{meant}"


def misspelt(names: Iterable[str]) -> Iterator[Misspelt]:
    """Yield those of `names` that are a mistake.

    Example:
        >>> [found.meant for found in misspelt(["OTEL_TORCH_MODULES_MAXDEPTH", "OTEL_SERVICE_NAME"])]
        ['OTEL_TORCH_MODULES_MAX_DEPTH']
    """
    for name in names:
        if name in OURS or name in STANDARD or not name.upper().startswith(_STANDARD_PREFIX):
            continue
        if name.startswith(_OF_TESTS):
            continue
        if name.upper().startswith(PREFIX):
            yield Misspelt(name, _nearest(name, OURS, 0.6))
            continue
        meant = _nearest(name, (*OURS, *STANDARD), _NEARLY)
        if meant:
            yield Misspelt(name, meant)


def log(found: Iterable[Misspelt]) -> None:
    """Say in one line of log what was `found`, once in a process."""
    new = [one for one in found if one.name not in _logged]
    _logged.update(one.name for one in new)
    if new:
        warn(_logger, "%s", "; ".join(one.sentence for one in new))


def _nearest(name: str, known: Sequence[str], cutoff: float) -> str:
    import difflib  # nearly all programs do without

    return next(iter(difflib.get_close_matches(name.upper(), known, n=1, cutoff=cutoff)), "")
