"""Reads metrics every so often and exports them, on a thread of its own.

The SDK's reader that does so starts its thread again in every forked child, which would send the parent's numbers once
more from each worker of a data loader. And the standard exporters log a line or two at each attempt that fails: here a
receiver that takes nothing is named once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

from opentelemetry.sdk.environment_variables import (
    OTEL_METRIC_EXPORT_INTERVAL,
    OTEL_METRIC_EXPORT_TIMEOUT,
)
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    MetricReader,
    MetricsData,
)

from otel_torch_modules._emission import sdk
from otel_torch_modules._emission.clocks import monotonic
from otel_torch_modules._interruption import is_interruption
from otel_torch_modules._log import warn
from otel_torch_modules._own_thread import OwnThread

_LOGGER = logging.getLogger(__name__)

_THREAD = "otel-torch-modules-metrics"
_INTERVAL_MS = "60000"
_TIMEOUT_MS = "30000"
_BROKEN_OFF_S = 0.5
_LONGEST_MS = 1e12  # locks wait no longer than some hundred years


class ExportingReader(MetricReader):
    """Exports every ``OTEL_METRIC_EXPORT_INTERVAL`` milliseconds, and once more at the end.

    Args:
        exporter: where they go.
        values: OpenTelemetry's variables, without what cannot be read.
    """

    def __init__(self, exporter: MetricExporter, values: Mapping[str, str]) -> None:
        super().__init__(**sdk.preferences(exporter))
        self._exporter = exporter
        interval_ms = float(values.get(OTEL_METRIC_EXPORT_INTERVAL, _INTERVAL_MS))
        self._interval_s = min(interval_ms, _LONGEST_MS) / 1e3
        self._timeout_ms = float(values.get(OTEL_METRIC_EXPORT_TIMEOUT, _TIMEOUT_MS))
        self._failed = False
        self._ends = threading.Event()
        for module in {one.__module__ for one in type(exporter).__mro__}:
            logging.getLogger(module).addFilter(_is_of_the_program)
        self._thread = OwnThread(target=self._run, name=_THREAD, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ends.wait(self._interval_s):
            self._read()
        self._read()

    def _read(self) -> None:
        try:
            self.collect(timeout_millis=self._timeout_ms)
        except BaseException as error:
            if is_interruption(error):
                raise
            self._heard(f"{type(error).__name__}: {error}")

    def _receive_metrics(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> None:
        with sdk.uninstrumented():
            result = self._exporter.export(metrics_data, timeout_millis=timeout_millis)
        failed = result is not MetricExportResult.SUCCESS
        self._heard(self._reason if failed else "")

    def _heard(self, trouble: str) -> None:
        """Say once that metrics are lost, and once that they are not any more."""
        if trouble and not self._failed:
            warn(_LOGGER, "Metrics of training are not sent: %s", trouble)
        elif self._failed and not trouble:
            warn(_LOGGER, "Metrics of training are sent again")
        self._failed = bool(trouble)

    def begin_to_end(self, timeout_s: float) -> None:
        """Have the thread export once more and end: `shutdown` waits for it, until so long from now at most."""
        self._deadline = monotonic() + timeout_s
        self._ends.set()

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Export once more, in the time that there is, and end the thread."""
        if not self._ends.is_set():
            self.begin_to_end(timeout_millis / 1e3)
        self._thread.join(max(self._deadline - monotonic(), 0.0))
        in_time = not self._thread.is_alive()
        self._exporter.shutdown(timeout_millis=timeout_millis if in_time else 0)
        self._thread.join(_BROKEN_OFF_S)
        if self._thread.is_alive():
            self._heard(self._reason)

    @property
    def _reason(self) -> str:
        return getattr(self._exporter, "reason", "") or "the receiver does not take them"


def _is_of_the_program(said: logging.LogRecord) -> bool:
    """Return whether a line of the log is not one that an exporter has written in a thread of ours."""
    return said.threadName != _THREAD
