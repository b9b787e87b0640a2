"""The doors: an OpenTelemetry instrumentor, and what the environment variable opens.

Importing this imports neither torch nor the SDK: ``opentelemetry-instrument`` loads it in every Python program.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, SupportsIndex

from otel_torch_modules import _misspelt, _until_torch
from otel_torch_modules._allowed import shown
from otel_torch_modules._base_instrumentor import BaseInstrumentor, sdk_importable
from otel_torch_modules._greenlets import threads_are_green
from otel_torch_modules._interruption import is_interruption
from otel_torch_modules._log import report, warn
from otel_torch_modules.config import Config

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

    from otel_torch_modules._tracing import Tracing

logger = logging.getLogger("otel_torch_modules")

_ARGUMENTS = ("config", "tracer_provider")


class TorchModuleInstrumentor(BaseInstrumentor):  # type: ignore[misc,valid-type]
    """Traces every call of a ``torch.nn.Module``, its backward and the steps that they make.

    There is one instrumentor in a process. In a program that has not imported torch yet it waits until it does.

    Example:
        >>> TorchModuleInstrumentor().instrument(config=Config(max_depth=3))
        >>> TorchModuleInstrumentor().uninstrument()
    """

    _tracing: Tracing | None = None

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return what must be installed: see `BaseInstrumentor`."""
        return ("torch >= 2.6",)

    def uninstrument(self, **kwargs: Any) -> None:
        """Take the hooks off and send what was recorded, up to 30 s; see `BaseInstrumentor`.

        Also where a signal handler's exception, which comes out of here, cuts the sending short.
        """
        try:
            super().uninstrument(**kwargs)
        except BaseException:
            super().uninstrument(**kwargs)  # nothing is on any more, and it has to know that
            raise

    def step(self, index: SupportsIndex | None) -> AbstractContextManager[None]:
        """See :func:`otel_torch_modules.step`."""
        return nullcontext() if self._tracing is None else self._tracing.step(index)

    def _instrument(self, **kwargs: Any) -> None:
        """Put the hooks on.

        Args:
            tracer_provider: where spans go; the program's own, or one made for it, where it is not given.
            config: a :class:`Config`; read from the environment where it is not given.

        Raises:
            ValueError: one of them is something else; it names the argument, the value and what is allowed.
        """
        from opentelemetry.trace import TracerProvider

        config = _given(kwargs, "config", Config, "a Config")
        tracer_provider = _given(kwargs, "tracer_provider", TracerProvider, "a TracerProvider")
        _say_what_is_not_used(kwargs)
        if config is None:
            _misspelt.log(_misspelt.misspelt(os.environ))
            try:
                config = Config.from_env(os.environ)
            except ValueError as error:
                if is_interruption(error):
                    raise
                report(logger, "Modules are not traced: %s", error)
                return
        if "torch" in sys.modules:
            self._start(config, tracer_provider)
        else:
            _until_torch.start = lambda: self._start(config, tracer_provider)

    def _start(self, config: Config, tracer_provider: TracerProvider | None) -> None:
        green = threads_are_green()
        if green:
            report(logger, "Modules are not traced: %s", green)
            return
        with sdk_importable():
            from otel_torch_modules._tracing import Tracing

        self._tracing = tracing = Tracing(config, tracer_provider)
        try:
            tracing.start()
        except BaseException:
            self._uninstrument()
            raise

    def _uninstrument(self, **kwargs: Any) -> None:
        _until_torch.start = None
        tracing, self._tracing = self._tracing, None
        if tracing is not None:
            try:
                tracing.stop()
            except BaseException as error:  # what could be undone is
                if is_interruption(error):
                    raise
                report(logger, "Tracing ended with an error of its own", error=error)


def _given(arguments: Mapping[str, Any], name: str, kind: type, allowed: str) -> Any:
    value = arguments.get(name)
    if value is not None and not isinstance(value, kind):
        raise ValueError(f"{name}: {shown(value)} is not allowed; it must be {allowed}")
    return value


def _say_what_is_not_used(arguments: Mapping[str, Any]) -> None:
    """Name what other instrumentors may know: who hands the same to all of them is not refused for it."""
    for name in sorted(
        name for name, value in arguments.items() if name not in _ARGUMENTS and value is not None
    ):
        where = "; metrics go to the global meter provider" if name == "meter_provider" else ""
        warn(
            logger, "instrument(%s=…) changes nothing: it takes %s%s", name, " and ".join(_ARGUMENTS), where
        )  # fmt: skip


def instrument_once() -> None:
    """Instrument this process unless something else has done it."""
    instrumentor = TorchModuleInstrumentor()
    if not instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.instrument()


@contextmanager
def trace(
    *, config: Config | None = None, tracer_provider: TracerProvider | None = None
) -> Iterator[None]:
    """Trace what runs inside, unless the process is traced already.

    Args:
        config: the options; read from the environment where None.
        tracer_provider: where spans go; the program's own, or one made for it, where None.

    Example:
        >>> with trace(config=Config(max_depth=2)):
        ...     epoch = 1  # what trains goes here
    """
    instrumentor = TorchModuleInstrumentor()
    if instrumentor.is_instrumented_by_opentelemetry:
        yield
        return
    instrumentor.instrument(config=config, tracer_provider=tracer_provider)
    try:
        yield
    finally:
        instrumentor.uninstrument()


def step(index: SupportsIndex | None = None) -> AbstractContextManager[None]:
    """Make what runs inside one step, with this index; without one, steps are counted.

    The index is an integer of 64 bits: Python's, NumPy's, or in a tensor on the CPU. With anything else, a tensor on a
    device included, the step is counted, and one line of log says so.

    Once a program has said where a step is, none is found automatically any more. Does nothing where the
    process is not traced.

    Example:
        >>> for index in range(2):
        ...     with step(index):
        ...         batch = index  # what trains goes here
    """
    return TorchModuleInstrumentor().step(index)
