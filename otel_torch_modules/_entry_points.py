"""What OpenTelemetry's variables name by entry points. Others wrote it: what one raises costs that one alone.

Which group of entry points a variable takes names of is said here, and nowhere else.
"""

from __future__ import annotations

import logging
import threading
from contextlib import AbstractContextManager
from importlib.metadata import EntryPoint, entry_points
from types import TracebackType
from typing import Any, Final

from otel_torch_modules._interruption import is_interruption
from otel_torch_modules._log import warn

_LOGGER = logging.getLogger("otel_torch_modules")
_logged: set[str] = set()

GROUPS: Final = {
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "opentelemetry_resource_detector",
    "OTEL_METRICS_EXPORTER": "opentelemetry_metrics_exporter",
    "OTEL_PROPAGATORS": "opentelemetry_propagator",
    "OTEL_PYTHON_CONTEXT": "opentelemetry_context",
    "OTEL_PYTHON_ID_GENERATOR": "opentelemetry_id_generator",
    "OTEL_PYTHON_METER_PROVIDER": "opentelemetry_meter_provider",
    "OTEL_PYTHON_TRACER_PROVIDER": "opentelemetry_tracer_provider",
    "OTEL_TRACES_EXPORTER": "opentelemetry_traces_exporter",
    "OTEL_TRACES_SAMPLER": "opentelemetry_traces_sampler",
    **{
        f"OTEL_PYTHON_EXPORTER_OTLP_{of}_CREDENTIAL_PROVIDER": (
            "opentelemetry_otlp_credential_provider"
        )
        for of in ("GRPC", "GRPC_METRICS", "GRPC_TRACES", "HTTP", "HTTP_METRICS", "HTTP_TRACES")
    },
}
"""By variable."""


def names(variable: str) -> set[str]:
    """Return those that `variable` may name."""
    return {point.name for point in entry_points(group=GROUPS[variable])}


def entry_point(variable: str, name: str) -> EntryPoint:
    """Return the one that `variable` names.

    Raises:
        LookupError: there is none.
    """
    for point in entry_points(group=GROUPS[variable], name=name):
        return point
    raise LookupError(f"{name} is not installed")


def made(variable: str, name: str, kind: type, *arguments: Any) -> Any:
    """Return what the entry point makes; None, after a line of log, where it makes none of that `kind`."""
    with setting_up(variable, name):
        found = entry_point(variable, name).load()(*arguments)
        if isinstance(found, kind):
            return found
        raise TypeError(f"{type(found).__name__} is no {kind.__name__}")
    return None


class setting_up(AbstractContextManager[None]):  # noqa: N801 - as `suppressed`, which it is but for the line
    """Suppress what is raised where an entry point is used that a variable names, and say so once in a process.

    Args:
        variable: which names it.
        name: of the entry point.

    Example:
        >>> with setting_up("OTEL_TRACES_EXPORTER", "otlp_file"):
        ...     _ = entry_point("OTEL_TRACES_EXPORTER", "otlp_file").load()
    """

    def __init__(self, variable: str, name: str) -> None:
        self._variable = variable
        self._name = name

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if error is None or _is_of_the_program(error):
            return False
        sentence = unusable(self._variable, self._name, error)
        if sentence not in _logged:
            _logged.add(sentence)
            warn(_LOGGER, "%s; it is ignored", sentence)
        return True


def unusable(variable: str, name: str, error: BaseException) -> str:
    """Return what to say of an entry point of which `error` came."""
    reason = f"{type(error).__name__}: {error}".rstrip(": ")
    return f"{variable}={name}{_distribution(variable, name)} cannot be used: {reason}"


def _distribution(variable: str, name: str) -> str:
    for point in entry_points(group=GROUPS[variable], name=name):
        if point.dist is not None:
            return f", of {point.dist.name} {point.dist.version},"
    return ""


def _is_of_the_program(error: BaseException) -> bool:
    # Handlers of signals run in the main thread: elsewhere it is a module that leaves when it is imported.
    if isinstance(error, SystemExit):
        return threading.current_thread() is threading.main_thread()
    return is_interruption(error)
