"""Encoded spans that wait to be sent, gathered into requests of bounded size.

It is to encoded spans what a `BatchSpanProcessor` is to finished ones, without a queue that could overflow: the worker
that fills it also empties it.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from opentelemetry.sdk.environment_variables import (
    OTEL_BSP_MAX_EXPORT_BATCH_SIZE,
    OTEL_BSP_SCHEDULE_DELAY,
)
from opentelemetry.sdk.trace.export import SpanExportResult

from otel_torch_modules._assembly.columns import SpanColumns
from otel_torch_modules._assembly.span import Span
from otel_torch_modules._emission import fork, sdk
from otel_torch_modules._emission.otlp import EncodedRequest, SpanEncoder
from otel_torch_modules._emission.otlp_columns import ColumnsEncoder
from otel_torch_modules._emission.record_spans import RecordSpans
from otel_torch_modules._slices import slices

_LOGGER = logging.getLogger(__name__)

_MOST_BYTES = 1 << 20  # gRPC servers take 4 MiB by default
_MOST_SPANS = 2_048
_DELAY_MS = 500
_SLICE = 512  # spans encoded at once


@runtime_checkable
class RequestExporter(Protocol):
    """An exporter that takes encoded requests as well as spans."""

    @property
    def takes_requests(self) -> bool:
        """Whether `export_request` works."""

    def export_request(self, request: EncodedRequest) -> SpanExportResult:
        """Send `request`; block until that is done or given up."""


class Outbox:
    """All methods are called on the worker thread.

    ``OTEL_BSP_SCHEDULE_DELAY`` says how long spans may wait, and ``OTEL_BSP_MAX_EXPORT_BATCH_SIZE`` how many of them
    make a request.

    Args:
        exporters: where requests go.
        encoder: makes them.
        clock: seconds.
    """

    def __init__(
        self,
        exporters: Sequence[RequestExporter],
        encoder: SpanEncoder,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.exporters = exporters
        self.encoder = encoder
        self._clock = clock
        self._delay_s = _positive(OTEL_BSP_SCHEDULE_DELAY, _DELAY_MS) / 1e3
        self._most_spans = _positive(OTEL_BSP_MAX_EXPORT_BATCH_SIZE, _MOST_SPANS)
        self._slice = min(_SLICE, self._most_spans)
        self._columns_encoder = ColumnsEncoder(encoder.template, self._slice)
        self._clear()
        fork.watch(self)

    def after_fork_in_child(self) -> None:
        """Forget the parent's spans: the parent sends them."""
        self._clear()

    def _clear(self) -> None:
        self._encoded: list[bytes] = []
        self._bytes = 0
        self._spans = 0
        self._since = 0.0

    def put(self, record: RecordSpans, spans: list[Span]) -> None:
        """Take `spans` of `record`."""
        for part in slices(spans, self._slice):
            self._add(self.encoder.encode(record, part), len(part))

    def put_columns(self, columns: SpanColumns, span_ids: list[int], flags: int) -> None:
        """Take all spans of `columns` but the heads."""
        for block in self._columns_encoder.encode(columns, span_ids, flags):
            self._add(*block)

    def _add(self, encoded: bytes, spans: int) -> None:
        if self._bytes + len(encoded) > _MOST_BYTES or self._spans + spans > self._most_spans:
            self.send()
        if not self._encoded:
            self._since = self._clock()
        self._encoded.append(encoded)
        self._bytes += len(encoded)
        self._spans += spans

    def idle(self) -> None:
        """Send what has waited long enough."""
        if self._spans and self._clock() - self._since >= self._delay_s:
            self.send()

    def send(self) -> None:
        """Send what there is."""
        encoded, spans = self._encoded, self._spans
        self._clear()
        if not spans:
            return
        request = self.encoder.request(encoded, spans)
        with sdk.uninstrumented():
            for exporter in self.exporters:
                try:
                    exporter.export_request(request)
                except Exception:  # as the SDK's processors do it
                    _LOGGER.exception("Spans could not be exported")


def _positive(variable: str, default: int) -> int:
    """Return what `variable` says; the SDK reports what is wrong with it."""
    text = os.environ.get(variable, "").strip()
    return int(text) if text.isdecimal() and int(text) > 0 else default
