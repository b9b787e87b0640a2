"""Whether somebody speaks at an endpoint of gRPC's."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from grpc import StatusCode  # type: ignore[import-untyped]

from otel_torch_modules._emission.otlp.connection import Connection
from otel_torch_modules._emission.otlp.greeting import Greeting
from otel_torch_modules._emission.otlp.grpc import GrpcRequestExporter
from otel_torch_modules._emission.otlp.request_exporter import EncodedRequest
from otel_torch_modules._emission.otlp.signal import TRACES
from tests.support.otlp_receivers import answering, grpc_receiver
from tests.support.served import served
from tests.support.tls_receivers import TLS_RECEIVERS, Identity, identity

Somebody = Callable[[Identity], AbstractContextManager[str]]


def greeting(endpoint: str, timeout_s: float) -> Greeting:
    values = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_TIMEOUT": str(timeout_s),
    }
    return Greeting(Connection.over_grpc(values, TRACES))


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return identity(tmp_path_factory.mktemp("own"), "own")


@contextmanager
def listening(take: Callable[[socket.socket], object]) -> Iterator[str]:
    """Let `take` have the connections to what the address is of, one after the other."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            kept = []
            try:
                while True:
                    connection, _ = listener.accept()
                    kept.append((connection, take(connection)))
            except OSError:  # nobody listens any more
                for connection, _ in kept:
                    connection.close()

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def shake_hands(own: Identity) -> Callable[[socket.socket], object]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.certificate, own.key)
    return lambda connection: context.wrap_socket(connection, server_side=True)


def nothing(_: socket.socket) -> None:
    pass


@contextmanager
def at(place: AbstractContextManager[str], scheme: str) -> Iterator[str]:
    with place as address:
        yield f"{scheme}://{address}"


@contextmanager
def nobody() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    yield address


@contextmanager
def other_protocol() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    with served(server):
        yield f"127.0.0.1:{server.server_address[1]}"


@contextmanager
def speaking_grpc() -> Iterator[str]:
    with grpc_receiver() as receiver:
        yield receiver.endpoint.rpartition("/")[2]


@contextmanager
def unresolved() -> Iterator[str]:
    yield "no.such.host.invalid:4317"


SILENT: dict[str, Somebody] = {
    "who takes a connection": lambda own: at(listening(nothing), "http"),
    "who takes one for TLS": lambda own: at(listening(nothing), "https"),
    "who speaks TLS and then no more": lambda own: at(listening(shake_hands(own)), "https"),
}
NOT_SILENT: dict[str, Somebody] = {
    "a server": lambda own: at(speaking_grpc(), "http"),
    "a server with TLS": lambda own: at(TLS_RECEIVERS["grpc"](own, None), "https"),
    "one that wants a certificate": lambda own: at(
        TLS_RECEIVERS["grpc"](own, own.certificate), "https"
    ),
    "a server with TLS that is not asked for it": lambda own: at(
        TLS_RECEIVERS["grpc"](own, None), "http"
    ),
    "a server without TLS that is asked for it": lambda own: at(speaking_grpc(), "https"),
    "one of HTTP": lambda own: at(other_protocol(), "http"),
    "one that closes": lambda own: at(listening(socket.socket.close), "http"),
    "nobody": lambda own: at(nobody(), "http"),
    "a name of nobody": lambda own: at(unresolved(), "http"),
}


@pytest.mark.parametrize("who", SILENT)
def test_who_says_nothing_in_time_is_silent(who: str, own: Identity) -> None:
    with SILENT[who](own) as endpoint:
        assert not greeting(endpoint, 0.3).is_answered()


@pytest.mark.parametrize("who", NOT_SILENT)
def test_all_others_are_left_to_grpc(who: str, own: Identity) -> None:
    with NOT_SILENT[who](own) as endpoint:
        assert greeting(endpoint, 1000).is_answered()


@pytest.mark.parametrize(
    "endpoint", ["unix:/no/such", "unix:///no/such", "dns:///host:4317", "host"]
)
def test_what_is_no_address_is_left_to_grpc(endpoint: str) -> None:
    assert greeting(endpoint, 1000).is_answered()


@pytest.mark.parametrize("who", SILENT)
def test_it_can_be_broken_off(who: str, own: Identity) -> None:
    with SILENT[who](own) as endpoint:
        waiting = greeting(endpoint, 1000)
        thread = threading.Thread(target=waiting.is_answered)
        thread.start()
        while thread.is_alive():
            waiting.break_off()
            thread.join(0.01)


def test_who_was_silent_is_asked_again() -> None:
    with listening(nothing) as address:
        values = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{address}",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "3",
        }
        exporter = GrpcRequestExporter(values)
        reply = exporter.export_request(EncodedRequest(b"", 0))
    assert (reply.error, reply.again) == ("DEADLINE_EXCEEDED", True)
    assert reply.reason == f"nothing answers at {address}"
    with answering("grpc", lambda: StatusCode.OK, int(address.rpartition(":")[2])) as receiver:
        assert exporter.export_request(EncodedRequest(b"", 0)).error == ""
        assert len(receiver.received) == 1
    exporter.shutdown()
