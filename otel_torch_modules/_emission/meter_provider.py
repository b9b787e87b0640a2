"""The meter provider that metrics go to: the program's own, or one of ours where it has none and asks for metrics.

One of ours is made only where ``OTEL_METRICS_EXPORTER`` names an exporter. OpenTelemetry's default would be ``otlp``,
but who has set nothing up for metrics would then send to a receiver that may well take traces alone.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping

from opentelemetry import metrics
from opentelemetry.environment_variables import (
    OTEL_METRICS_EXPORTER,
    OTEL_PYTHON_METER_PROVIDER,
)
from opentelemetry.sdk.environment_variables import OTEL_SDK_DISABLED
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import Resource

from otel_torch_modules import _odd_values
from otel_torch_modules._emission import named, sdk
from otel_torch_modules._emission.global_providers import meter_provider
from otel_torch_modules._emission.metric_reader import ExportingReader
from otel_torch_modules._engine import fork
from otel_torch_modules._heard_already import heard_already
from otel_torch_modules._interruption import is_interruption
from otel_torch_modules._log import report, warn
from otel_torch_modules._standard_variables import is_of_metrics, read_standard

_LOGGER = logging.getLogger(__name__)

_CLOSE_S = 2.0  # for the last export; traces have had their time


def is_asked_for() -> bool:
    """Return whether the environment names an exporter of metrics."""
    named_there = os.environ.get(OTEL_METRICS_EXPORTER, "").strip().lower()
    disabled = os.environ.get(OTEL_SDK_DISABLED, "").strip().lower() == "true"
    return named_there not in ("", "none") and not disabled


class _OwnMeterProvider(sdk.AsksNoDetectorInChild, MeterProvider):
    """The SDK's, but for that."""


class LazyMeterProvider:
    """A meter provider that is found, or made, when there is something to tell. All but `close` is the worker thread's.

    Args:
        resource: says what a provider of ours tells of.
        environ: returns the variables.
    """

    def __init__(
        self,
        resource: Callable[[], Resource],
        environ: Callable[[], Mapping[str, str]] = lambda: os.environ,
    ) -> None:
        self._resource = resource
        self._environ = environ
        self.after_fork_in_child()
        fork.watch(self)

    def after_fork_in_child(self) -> None:
        """Make one anew when it is needed: the parent's exporters are the parent's."""
        self._ours: MeterProvider | None = None
        self._readers: list[ExportingReader] = []
        self._closing = threading.RLock()
        self._asked = is_asked_for()
        self._chosen = OTEL_PYTHON_METER_PROVIDER in os.environ

    def peek(self) -> metrics.MeterProvider | None:
        """Return the provider; None where there is none. Cheap but for the time when ours is made."""
        theirs = meter_provider() if self._chosen or sdk.meter_provider_is_set() else None
        if theirs is not None and not sdk.is_no_meter_provider(theirs):  # it may come to it late
            self.close()
            return theirs
        if self._ours is None and self._asked:
            self._asked = False
            try:
                with fork.held_off, heard_already():
                    self._ours = self._build()
            except BaseException as error:
                if is_interruption(error):
                    raise
                report(
                    _LOGGER, "Steps are traced, but there are no metrics of training", error=error
                )
        return self._ours

    @property
    def is_ours(self) -> bool:
        """Whether the provider is one of ours."""
        return self._ours is not None

    def _build(self) -> MeterProvider | None:
        readable = read_standard(self._environ())
        _odd_values.log(one for one in readable.odd if is_of_metrics(one.name))
        readers = [
            made if isinstance(made, MetricReader) else ExportingReader(made, readable.values)
            for made in named.metric_exporters(readable.values)
        ]
        if not readers:
            return None
        self._readers = [one for one in readers if isinstance(one, ExportingReader)]
        return _OwnMeterProvider(
            readers,
            self._resource(),
            exemplar_filter=named.exemplar_filter(readable.values),
            shutdown_on_exit=False,
        )

    def close(self) -> None:
        """Export what there is and end the threads of a provider of ours. Who comes second waits for the first."""
        with self._closing:
            ours, self._ours = self._ours, None
            if ours is None:
                return
            for reader in self._readers:  # at once, for the SDK waits for one after the other
                reader.begin_to_end(_CLOSE_S)
            try:
                ours.shutdown(timeout_millis=1e3 * _CLOSE_S * (len(self._readers) + 1))
            except BaseException as error:
                if is_interruption(error):
                    raise
                warn(_LOGGER, "The last metrics of training may not have been sent: %s", error)
