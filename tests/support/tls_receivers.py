"""Receivers that speak TLS, with certificates made for them."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

from tests.support.backend_programs import find_on_path
from tests.support.served import served

_REQUEST = (
    "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost "
    "-addext subjectAltName=IP:127.0.0.1"
)


class Identity(NamedTuple):
    """A key, and a certificate that vouches for itself."""

    key: Path
    certificate: Path


def identity(folder: Path, name: str) -> Identity:
    made = Identity(folder / f"{name}.key", folder / f"{name}.pem")
    openssl = find_on_path("openssl", "openssl")
    files = ["-keyout", made.key, "-out", made.certificate]
    subprocess.run([openssl, *_REQUEST.split(), *files], check=True, capture_output=True)
    return made


class _Taking(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def _http(own: Identity, clients: Path | None) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.certificate, own.key)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Taking)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with served(server):
        yield f"127.0.0.1:{server.server_address[1]}"


class _Servicer(TraceServiceServicer):
    def Export(self, *_: object) -> ExportTraceServiceResponse:  # noqa: N802
        return ExportTraceServiceResponse()


@contextmanager
def _grpc(own: Identity, clients: Path | None) -> Iterator[str]:
    credentials = grpc.ssl_server_credentials(
        [(own.key.read_bytes(), own.certificate.read_bytes())],
        root_certificates=None if clients is None else clients.read_bytes(),
        require_client_auth=clients is not None,
    )
    with ThreadPoolExecutor(2) as threads:
        server = grpc.server(threads)
        add_TraceServiceServicer_to_server(_Servicer(), server)
        port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(0).wait()


TLS_RECEIVERS: dict[str, Callable[[Identity, Path | None], AbstractContextManager[str]]] = {
    "grpc": _grpc,
    "http/protobuf": _http,
}
"""By protocol: they have an identity and, where they want one of clients, the certificates that vouch for these."""
