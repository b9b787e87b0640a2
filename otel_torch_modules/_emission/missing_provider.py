"""What stands in for a tracer provider of ours that cannot be made, until it can: a shortage may last a moment."""

from __future__ import annotations

import logging
from collections.abc import Callable

from opentelemetry import trace

from otel_torch_modules._emission.clocks import monotonic
from otel_torch_modules._engine.attempt_pause import AttemptPause
from otel_torch_modules._interruption import is_interruption
from otel_torch_modules._log import report, warn
from otel_torch_modules._texts import error_type

_LOGGER = logging.getLogger(__name__)


class MissingProvider(trace.NoOpTracerProvider):
    """What comes to it is lost.

    Args:
        error: the type of what keeps ours from being made.
    """

    def __init__(self, error: str) -> None:
        super().__init__()
        self.error = error


class Attempts:
    """Makes a provider; where that fails it does so again when it is asked for after a while.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._missing: MissingProvider | None = None
        self._pause = AttemptPause(clock)

    def make(self, build: Callable[[], trace.TracerProvider]) -> trace.TracerProvider:
        """Return what `build` returns; a `MissingProvider`, after a line of log, while it raises."""
        if self._missing is not None and self._pause.lasts:
            return self._missing
        try:
            made = build()
        except BaseException as error:
            if is_interruption(error):
                raise
            return self._fail(error)
        if self._missing is not None:
            warn(_LOGGER, "Exporters could be set up: spans are sent from now on")
            self._missing = None
            self._pause.end()
        return made

    def _fail(self, error: BaseException) -> MissingProvider:
        if self._missing is None:
            report(
                _LOGGER,
                "No exporter could be set up: spans are lost until one can: %s: %s",
                type(error).__name__,
                error,
                error=None if isinstance(error, OSError) else error,  # the machine's are no faults
            )
        self._missing = MissingProvider(error_type(error))
        self._pause.begin()
        return self._missing
