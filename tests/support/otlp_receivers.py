"""Collectors that live in the test: what a program sends over gRPC or HTTP, with its headers."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import grpc
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

from tests.support.jaeger_query import StoredSpan, trees
from tests.support.served import served
from tests.support.training_program import without_stretches


class Received(NamedTuple):
    """One export, and how it came."""

    headers: dict[str, str]  # names in lower case
    request: ExportTraceServiceRequest


class Refusal(NamedTuple):
    """An answer that takes nothing, with what goes along."""

    status: Any  # a number over HTTP, a `grpc.StatusCode` over gRPC
    headers: dict[str, Any]  # trailing metadata over gRPC


class Said(NamedTuple):
    """An answer over HTTP in any words, of one that takes what it is sent."""

    status: int
    headers: dict[str, str]
    body: bytes


class Receiver:
    """What has been received at `endpoint`."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.received: list[Received] = []

    def traces(self) -> list[StoredSpan]:
        """Return the trees of all traces, in order of their start.

        The long stretches between phases are left out: whether there are any depends on what else the machine does.
        """
        requests = [
            MessageToDict(received.request, use_integers_for_enums=True)
            for received in list(self.received)
        ]
        return without_stretches(trees(requests))

    def outlines(self) -> list[list[str]]:
        """Return the names of all spans, tree by tree."""
        return [root.outline() for root in self.traces()]


@contextmanager
def http_receiver() -> Iterator[Receiver]:
    with _http(lambda: 200) as receiver:
        yield receiver


@contextmanager
def grpc_receiver() -> Iterator[Receiver]:
    with _grpc(lambda: grpc.StatusCode.OK) as receiver:
        yield receiver


@contextmanager
def answering(protocol: str, status: Callable[[], Any], port: int = 0) -> Iterator[Receiver]:
    """Answer each export with what `status` returns: a response, a `Refusal`, or a status alone; `Said` over HTTP.

    What was not taken at all is not in `received`.
    """
    with (_grpc if protocol == "grpc" else _http)(status, port) as receiver:
        yield receiver


@contextmanager
def refusing(protocol: str, *, again: bool) -> Iterator[Receiver]:
    """Take nothing: for good, or until a better time."""
    grpc_code = grpc.StatusCode.UNAVAILABLE if again else grpc.StatusCode.INVALID_ARGUMENT
    status = grpc_code if protocol == "grpc" else 503 if again else 400
    with answering(protocol, lambda: status) as receiver:
        yield receiver


@contextmanager
def _http(status: Callable[[], Any], port: int = 0) -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            headers[":path"] = self.path
            if headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            answer: Any = status()
            said = b""
            more: dict[str, Any] = {}
            if isinstance(answer, Refusal):
                answer, more = answer
            if isinstance(answer, Said):
                answer, more, said = answer
            if isinstance(answer, ExportTraceServiceResponse):
                answer, said = 200, answer.SerializeToString()
            if answer == 200:
                request = ExportTraceServiceRequest.FromString(body)
                receiver.received.append(Received(headers, request))
            self.send_response(answer)
            for name, value in more.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    receiver = Receiver(f"http://127.0.0.1:{server.server_address[1]}")
    with served(server):
        yield receiver


@contextmanager
def _grpc(status: Callable[[], Any], port: int = 0) -> Iterator[Receiver]:
    class Servicer(TraceServiceServicer):
        def Export(  # noqa: N802
            self, request: ExportTraceServiceRequest, context: grpc.ServicerContext
        ) -> ExportTraceServiceResponse:
            answer = status()
            response = ExportTraceServiceResponse()
            if isinstance(answer, Refusal):
                context.set_trailing_metadata((*answer.headers.items(),))
                answer = answer.status
            if isinstance(answer, ExportTraceServiceResponse):
                response = answer
            elif answer is not grpc.StatusCode.OK:
                context.abort(answer, "no")
            headers = {str(name): str(value) for name, value in context.invocation_metadata()}
            receiver.received.append(Received(headers, request))
            return response

    with ThreadPoolExecutor(2) as threads:
        server = grpc.server(threads)
        add_TraceServiceServicer_to_server(Servicer(), server)
        receiver = Receiver(f"http://127.0.0.1:{server.add_insecure_port(f'127.0.0.1:{port}')}")
        server.start()
        try:
            yield receiver
        finally:
            server.stop(0).wait()


RECEIVERS: dict[str, Callable[[], AbstractContextManager[Receiver]]] = {
    "grpc": grpc_receiver,
    "http/protobuf": http_receiver,
}
"""By the values of ``OTEL_EXPORTER_OTLP_PROTOCOL``."""
