"""The standard OTLP exporter over gRPC, which also sends what is encoded already, one attempt at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from grpc import Channel, RpcError, StatusCode  # type: ignore[import-untyped]
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from otel_torch_modules._emission.otlp.reply import Reply
from otel_torch_modules._emission.otlp.request_exporter import EncodedRequest, RequestExporter
from otel_torch_modules._interruption import is_interruption, suppressed

# https://github.com/open-telemetry/opentelemetry-proto/blob/main/opentelemetry/proto/collector/trace/v1/trace_service.proto
_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

# https://opentelemetry.io/docs/specs/otlp/#failures: RESOURCE_EXHAUSTED only where the server says when.
_AGAIN = {
    StatusCode.CANCELLED,
    StatusCode.DEADLINE_EXCEEDED,
    StatusCode.ABORTED,
    StatusCode.OUT_OF_RANGE,
    StatusCode.UNAVAILABLE,
    StatusCode.DATA_LOSS,
}
# Where servers put a `RetryInfo`: by itself, or, as those in Go do, among the details of the status.
_RETRY_INFO = "google.rpc.retryinfo-bin"
_STATUS = "grpc-status-details-bin"
_NO_CONNECTION = ("failed to connect", "DNS resolution", "Socket closed", "connections to all")


class GrpcRequestExporter(RequestExporter, OTLPSpanExporter):
    """Transport, TLS, headers and compression are the standard one's."""

    def __init__(self) -> None:
        super().__init__()
        self.set_up(str(self._endpoint).rpartition("@")[2], self._timeout)

    def attempt(self, request: EncodedRequest) -> Reply:
        """Send `request` once, in the time that ``OTEL_EXPORTER_OTLP_TIMEOUT`` allows."""
        data = request.data
        try:
            # Early versions have the generated stub, which takes a message.
            client: Any = self._client
            response = client.Export(
                data if isinstance(client, _Stub) else ExportTraceServiceRequest.FromString(data),
                metadata=self._headers,
                timeout=self._timeout,
            )
        except RpcError as error:
            if is_interruption(error):
                raise
            return self._failure(error)
        return self.taken(response, request)

    def _failure(self, error: RpcError) -> Reply:
        code, details = error.code(), error.details() or ""
        after_s = _wanted_pause(dict(error.trailing_metadata() or ()))
        again = code in _AGAIN or (code is StatusCode.RESOURCE_EXHAUSTED and after_s is not None)
        if code is StatusCode.UNAVAILABLE:
            self._reconnect()
        if code is StatusCode.DEADLINE_EXCEEDED or (
            code is StatusCode.UNAVAILABLE and any(text in details for text in _NO_CONNECTION)
        ):
            reason = self.silence
        else:
            reason = f"{self.place} answers {code.name}: {details}"
        return Reply(code.name, reason, again, after_s or 0.0)

    def _reconnect(self) -> None:
        # A channel waits for up to two minutes before it looks for its server again.
        if hasattr(self, "_channel") and not self._ended.is_set():
            self._close_channel()
            self._initialize_channel_and_stub()
            if self._ended.is_set():
                self._close_channel()

    def _close_channel(self) -> None:
        channel: Any = self._channel
        channel.close()

    def _initialize_channel_and_stub(self) -> None:
        # Early versions do not call it.
        super()._initialize_channel_and_stub()  # type: ignore[no-untyped-call]
        self._client = _Stub(self._channel)  # type: ignore[assignment]


def _wanted_pause(trailing: Mapping[str, Any]) -> float | None:
    """Return the seconds that a server asks for; None where it says nothing of another attempt."""
    with suppressed(DecodeError):
        if _RETRY_INFO in trailing:
            return _seconds(RetryInfo.FromString(trailing[_RETRY_INFO]))
        for detail in Status.FromString(trailing.get(_STATUS, b"")).details:
            if detail.Is(RetryInfo.DESCRIPTOR):
                return _seconds(RetryInfo.FromString(detail.value))
    return None


def _seconds(info: Any) -> float:
    delay = info.retry_delay
    return float(delay.seconds + delay.nanos / 1e9)


class _Stub:
    """The generated stub but for the serializer: requests are encoded already."""

    def __init__(self, channel: Channel) -> None:
        self.Export = channel.unary_unary(
            _METHOD, response_deserializer=ExportTraceServiceResponse.FromString
        )
