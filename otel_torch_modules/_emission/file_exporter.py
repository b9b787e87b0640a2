"""``OTEL_TRACES_EXPORTER=otlp_file``: traces in a file, no server needed.

One line of OTLP JSON for each export, as the Collector's file exporter writes it and its ``otlpjsonfile``
receiver reads it: https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/. The standard encoder does the
work; what OTLP asks of JSON beyond protobuf's own mapping is that ids are hexadecimal and enums are numbers:
https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_torch_modules._emission import fork
from otel_torch_modules._emission.otlp_json import LineEncoder
from otel_torch_modules.environment_variables import OTEL_TORCH_MODULES_FILE

if TYPE_CHECKING:  # a program that is not traced may use this exporter too
    from otel_torch_modules._emission.otlp import EncodedRequest

_LOGGER = logging.getLogger(__name__)

_DEFAULT_FILE = "traces-{pid}.jsonl"


class OtlpFileSpanExporter(SpanExporter):
    """Appends to the file that ``OTEL_TORCH_MODULES_FILE`` names; by default ``traces-{pid}.jsonl`` right here.

    ``{pid}`` stands for the process id and ``{rank}`` for the launcher's ``RANK``, 0 where there is none, so that
    processes do not share a file unless they are meant to. Folders are made. Each export is one write, so that
    lines of several processes in one file stay whole.

    Args:
        path: used instead of the variable.

    Example:
        >>> OtlpFileSpanExporter("/tmp/traces-{rank}.jsonl").path
        '/tmp/traces-0.jsonl'
    """

    def __init__(self, path: str | None = None) -> None:
        self._pattern = path or os.environ.get(OTEL_TORCH_MODULES_FILE) or _DEFAULT_FILE
        self._file: BinaryIO | None = None
        self._lock = threading.Lock()
        self._failed = False
        self._encoder = LineEncoder()
        fork.watch(self)

    def after_fork_in_child(self) -> None:
        """Open a file of the child's own at its next export."""
        self._file = None
        self._lock = threading.Lock()

    @property
    def path(self) -> str:
        """Where this process writes."""
        return self._pattern.replace("{pid}", str(os.getpid())).replace(
            "{rank}", os.environ.get("RANK", "0")
        )

    takes_requests = True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Append `spans` as one line; log the first error and never raise."""
        return self._append(lambda: encode_spans(spans))

    def export_request(self, request: EncodedRequest) -> SpanExportResult:
        """Append what is encoded already as one line; log the first error and never raise."""
        return self._append(lambda: ExportTraceServiceRequest.FromString(request.data))

    def _append(self, make_request: Callable[[], Any]) -> SpanExportResult:
        try:
            line = self._encoder.encode(make_request())
            with self._lock:
                if self._file is None:
                    Path(self.path).parent.mkdir(parents=True, exist_ok=True)
                    self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115
                _write(self._file, line)
        except Exception:
            if not self._failed:
                self._failed = True
                _LOGGER.exception("Spans could not be written to %s", self.path)
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Return True: every export is written at once."""
        return True

    def shutdown(self) -> None:
        """Close the file."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None


def _write(file: BinaryIO, line: bytes) -> None:
    written = file.write(line)
    while written < len(line):  # a disk that is nearly full takes a part
        line = line[written:]
        written = file.write(line)
