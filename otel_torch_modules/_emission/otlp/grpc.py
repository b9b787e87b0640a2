"""OTLP over gRPC: sends what is encoded already, one attempt at a time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from grpc import (  # type: ignore[import-untyped]
    ChannelCredentials,
    Compression,
    RpcError,
    StatusCode,
    insecure_channel,
    secure_channel,
    ssl_channel_credentials,
)
from opentelemetry.exporter.otlp.proto.grpc.version import __version__

from otel_torch_modules._emission.otlp import unanswered
from otel_torch_modules._emission.otlp.connection import Connection, credentials
from otel_torch_modules._emission.otlp.greeting import Greeting
from otel_torch_modules._emission.otlp.reply import Reply
from otel_torch_modules._emission.otlp.request_exporter import EncodedRequest, RequestExporter
from otel_torch_modules._emission.otlp.room_for_grpc import look_for_room
from otel_torch_modules._emission.otlp.signal import TRACES, Signal
from otel_torch_modules._interruption import is_interruption, suppressed
from otel_torch_modules._otlp_values import GRPC, ends_grpc

_COMPRESSIONS = {"": Compression.NoCompression, "gzip": Compression.Gzip}

# https://opentelemetry.io/docs/specs/otlp/#failures: RESOURCE_EXHAUSTED only where the server says when.
_AGAIN = {
    StatusCode.CANCELLED,
    StatusCode.DEADLINE_EXCEEDED,
    StatusCode.ABORTED,
    StatusCode.OUT_OF_RANGE,
    StatusCode.UNAVAILABLE,
    StatusCode.DATA_LOSS,
}
# A channel waits for up to two minutes before it looks for its server again. And a connection that has fallen silent,
# as where a balancer was replaced, it keeps for ever.
_CONNECT_ANEW = {StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED}
# Where servers put a `RetryInfo`: by itself, or, as those in Go do, among the details of the status.
_RETRY_INFO = "google.rpc.retryinfo-bin"
_STATUS = "grpc-status-details-bin"
# gRPC writes some lines to stderr at each handshake that fails.
_FIRST_REST_S = 1.0
_LONGEST_REST_S = 300.0

_NO_CONNECTION = (
    "failed to connect",
    "connections to all",
    "Socket closed",
    "DNS resolution",
    "errors resolving",
)


class GrpcRequestExporter(RequestExporter):
    """Sends as the standard exporter does.

    Args:
        values: OpenTelemetry's variables, without what cannot be read.
        signal: what is sent.

    Raises:
        ValueError: gRPC would end the process.
        ShortageError: it would now.
    """

    def __init__(self, values: Mapping[str, str], signal: Signal = TRACES) -> None:
        wrong = ends_grpc(values)
        if wrong:
            raise ValueError(wrong)
        look_for_room()
        self._connection = connection = Connection.over_grpc(values, signal)
        given = None
        if not connection.insecure:
            given = credentials(GRPC, ChannelCredentials, values, signal)
            self._credentials = given or _channel_credentials(connection)
        # Those that are given may be for something else than TLS.
        self._greeting = Greeting(connection) if connection.is_direct and given is None else None
        self.set_up(connection.place, connection.timeout_s, signal)
        self._rest_s = _FIRST_REST_S
        self._connect()

    def _connect(self) -> None:
        options: dict[str, Any] = {
            "compression": _COMPRESSIONS[self._connection.compression],
            "options": (
                ("grpc.primary_user_agent", f"OTel-OTLP-Exporter-Python/{__version__}"),
                ("grpc.use_local_subchannel_pool", 1),  # else it may get a connection that is there
            ),
        }
        endpoint = self._connection.endpoint
        if self._connection.insecure:
            self._channel = insecure_channel(endpoint, **options)
        else:
            self._channel = secure_channel(endpoint, self._credentials, **options)
        self._has_answered = False
        self._export_call = self._channel.unary_unary(
            self.signal.method, response_deserializer=self.signal.response.FromString
        )

    def attempt(self, request: EncodedRequest) -> Reply:
        """Send `request` once, in the time that ``OTEL_EXPORTER_OTLP_TIMEOUT`` allows."""
        if not self._is_spoken_to():
            return Reply(StatusCode.DEADLINE_EXCEEDED.name, self.silence, again=True)
        try:
            response = self._export_call(
                request.data,
                metadata=tuple(self._connection.headers.items()),
                timeout=self._connection.timeout_s,
            )
        except RpcError as error:
            if is_interruption(error):
                raise
            return self._failure(error)
        self._rest_s = _FIRST_REST_S
        self._has_answered = True
        return self.taken(response, request)

    def _is_spoken_to(self) -> bool:
        return self._has_answered or self._greeting is None or self._greeting.is_answered()

    def _failure(self, error: RpcError) -> Reply:
        code, details = error.code(), error.details() or ""
        after_s = _wanted_pause(dict(error.trailing_metadata() or ()))
        again = code in _AGAIN or (code is StatusCode.RESOURCE_EXHAUSTED and after_s is not None)
        self._has_answered = True
        if code in _CONNECT_ANEW:
            self._reconnect()
        if code is StatusCode.DEADLINE_EXCEEDED or (
            code is StatusCode.UNAVAILABLE and any(text in details for text in _NO_CONNECTION)
        ):
            reason = unanswered.over_grpc(self.place, details) or self.silence
        else:
            reason = f"{self.place} answers {code.name}: {details}"
        return Reply(code.name, reason, again, after_s or 0.0, rest_s=self._rest_after(reason))

    def _rest_after(self, reason: str) -> float:
        if not unanswered.is_of_tls(reason):
            self._rest_s = _FIRST_REST_S
            return 0.0
        rest_s, self._rest_s = self._rest_s, min(2 * self._rest_s, _LONGEST_REST_S)
        return rest_s

    def _reconnect(self) -> None:
        if not self._ended.is_set():
            self._channel.close()
            self._connect()
            if self._ended.is_set():
                self._channel.close()

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        """Break off what is being tried, and close the channel."""
        super().shutdown(timeout_millis)
        if self._greeting is not None:
            self._greeting.break_off()
        self._channel.close()


def _channel_credentials(connection: Connection) -> ChannelCredentials:
    """Return what a channel needs for TLS."""
    # Of a key and its certificate gRPC ends the process where one is missing.
    pair = connection.client_key and connection.client_certificate
    return ssl_channel_credentials(
        root_certificates=_content(connection.certificate),
        private_key=_content(connection.client_key) if pair else None,
        certificate_chain=_content(connection.client_certificate) if pair else None,
    )


def _content(path: str) -> bytes | None:
    return Path(path).read_bytes() if path else None


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
