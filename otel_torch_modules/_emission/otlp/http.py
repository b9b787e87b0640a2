"""The standard OTLP exporter over HTTP, which also sends what is encoded already, one attempt at a time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timezone
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otel_torch_modules._emission.otlp.reply import TAKEN, Reply
from otel_torch_modules._emission.otlp.request_exporter import EncodedRequest, RequestExporter
from otel_torch_modules._interruption import is_interruption, suppressed
from otel_torch_modules._texts import error_type

_AGAIN = {429, 502, 503, 504}  # https://opentelemetry.io/docs/specs/otlp/#failures-1


class _Response(NamedTuple):
    status: int
    said: str
    headers: Mapping[str, str]
    body: bytes


class HttpRequestExporter(RequestExporter, OTLPSpanExporter):
    """Transport, TLS, headers and compression are the standard one's."""

    def __init__(self) -> None:
        super().__init__()
        client: Any = getattr(self, "_client", self)  # early versions have none
        parts = urlsplit(self._endpoint)  # which may hold a password
        place = parts.netloc.rpartition("@")[2] or self._endpoint
        self.set_up(place, client._timeout)

    def attempt(self, request: EncodedRequest) -> Reply:
        """Send `request` once, in the time that ``OTEL_EXPORTER_OTLP_TIMEOUT`` allows."""
        response = self._post(request.data)
        if isinstance(response, Reply):
            return response
        if not 200 <= response.status < 300:
            reason = f"{self.place} answers {response.status} {response.said}".rstrip()
            return Reply(
                str(response.status), reason, response.status in _AGAIN, _wanted_pause(response)
            )
        with suppressed(DecodeError):  # a proxy may answer in words of its own
            return self.taken(ExportTraceServiceResponse.FromString(response.body), request)
        return TAKEN

    def _post(self, data: bytes) -> _Response | Reply:
        """Return what came back, or why nothing did."""
        client: Any = getattr(self, "_client", None)
        if client is not None:
            result = client._submit(client._compress(data), client._timeout)
            if result.status_code is None:
                lost = client._transport.is_connection_error(result.error)
                return self._no_answer(result.error, again=lost)
            return _Response(
                result.status_code, result.reason or "", result.headers(), result.content()
            )
        try:
            response: Any = self._export(data)  # type: ignore[attr-defined]  # of early versions
        except OSError as error:  # all of `requests` are
            if is_interruption(error):
                raise
            return self._no_answer(error, again=True)
        return _Response(
            response.status_code, response.reason or "", response.headers, response.content
        )

    def _no_answer(self, error: Exception, *, again: bool) -> Reply:
        if again:
            return Reply(error_type(error), self.silence, again)
        return Reply(error_type(error), f"{self.place}: {error}")


def _wanted_pause(response: _Response) -> float:
    """Return the seconds that the header ``Retry-After`` asks for: a number of them, or a date, in GMT."""
    text = (response.headers.get("retry-after") or "").strip()
    if text.isdecimal():
        return float(text)
    with suppressed(TypeError, ValueError):
        return parsedate_to_datetime(text).replace(tzinfo=timezone.utc).timestamp() - time.time()
    return 0.0
