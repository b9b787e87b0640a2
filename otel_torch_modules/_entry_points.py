"""What OpenTelemetry's variables name by entry points. Others wrote it: what one raises costs that one alone.

One may also never come back: a detector that asks a network, an exporter that waits for a licence. So it works in a
thread that can be left behind.

Which group of entry points a variable takes names of is said here, and nowhere else.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import copy_context
from importlib.metadata import EntryPoint, entry_points
from types import TracebackType
from typing import Any, Final, Generic, TypeVar

from otel_torch_modules._interruption import is_interruption
from otel_torch_modules._log import warn
from otel_torch_modules._own_thread import OwnThread

_LOGGER = logging.getLogger("otel_torch_modules")
_logged: set[str] = set()

_Made = TypeVar("_Made")

_PATIENCE_S: Final = 10.0
_PATIENCE_AT_EXIT_S: Final = 3.0  # less than a process that ends waits for all there is
_LOOK_S: Final = 0.05

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


class ShortageError(OSError):
    """What an entry point of ours needs is not to be had now: no fault of it, and it may be later."""


class Use(Generic[_Made]):
    """One at work, from now on, in a thread of its own.

    Args:
        variable: which names it.
        name: of the entry point.
        work: what is done with it.

    Example:
        >>> Use("OTEL_TRACES_EXPORTER", "console", lambda: "made").result()
        'made'
    """

    def __init__(self, variable: str, name: str, work: Callable[[], _Made]) -> None:
        self._variable = variable
        self._name = name
        self._work = work
        self._made: _Made | None = None
        self._context = copy_context()
        self._thread = OwnThread(target=self._run, name=f"otel-torch-modules {name}", daemon=True)
        _under_way.append(self)
        try:
            self._thread.start()
        except RuntimeError as error:  # at the end of the process Python starts none
            if is_interruption(error):
                raise
            self._run()

    def _run(self) -> None:
        try:
            with setting_up(self._variable, self._name):
                self._made = self._context.run(self._work)
        finally:
            _under_way.remove(self)

    def result(self) -> _Made | None:
        """Return what the work returns; None, after a line of log, where it raises or takes long."""
        looks = 0
        while self in _under_way:
            at_exit = not threading.main_thread().is_alive()
            patience_s = _PATIENCE_AT_EXIT_S if at_exit else _PATIENCE_S
            # Not by the clock, which the program may have stopped.
            if looks * _LOOK_S >= patience_s:
                _say(unusable(self._variable, self._name, TimeoutError("it does not come back")))
                return None
            self._thread.join(_LOOK_S)
            looks += 1
        return self._made

    def __str__(self) -> str:
        return f"{self._variable}={self._name}{_distribution(self._variable, self._name)}"


_under_way: Final[list[Use[Any]]] = []


def under_way() -> list[str]:
    """Return the names of those that are at work."""
    return list(map(str, _under_way))


def made(variable: str, name: str, kind: type, *arguments: Any) -> Any:
    """Return what the entry point makes; None, after a line of log, where it makes none of that `kind`."""

    def make() -> Any:
        found = entry_point(variable, name).load()(*arguments)
        if isinstance(found, kind):
            return found
        raise TypeError(f"{type(found).__name__} is no {kind.__name__}")

    return Use(variable, name, make).result()


class setting_up(AbstractContextManager[None]):  # noqa: N801 - as `suppressed`, which it is but for the line
    """Suppress what is raised where an entry point is used that a variable names, and say so once in a process.

    But for a `ShortageError`: who used it may try again.

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
        if error is None or isinstance(error, ShortageError) or _is_of_the_program(error):
            return False
        _say(unusable(self._variable, self._name, error))
        return True


def _say(sentence: str) -> None:
    if sentence not in _logged:
        _logged.add(sentence)
        warn(_LOGGER, "%s; it is ignored", sentence)


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
