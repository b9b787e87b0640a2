"""A connection that has fallen silent, as where a balancer was replaced, costs an attempt: the next one has another."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from otel_torch_modules._emission.named import trace_exporters
from otel_torch_modules._emission.otlp.request_exporter import EncodedRequest, RequestExporter
from otel_torch_modules._standard_variables import read_standard
from tests.support.otlp_receivers import RECEIVERS

REQUEST = EncodedRequest(b"", 0)


class Way:
    """Lets through what comes by a connection, both ways, until it falls silent: only those made later go on then."""

    def __init__(self, listener: socket.socket, target: tuple[str, int]) -> None:
        self._listener = listener
        self._target = target
        self._silent = threading.Event()
        self._ends = ExitStack()
        threading.Thread(target=self._accept, daemon=True).start()

    def fall_silent(self) -> None:
        self._silent.set()
        self._silent = threading.Event()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._ends.close()

    def _accept(self) -> None:
        with suppress(OSError):  # nobody listens any more
            while True:
                near = self._ends.enter_context(self._listener.accept()[0])
                far = self._ends.enter_context(socket.create_connection(self._target))
                for ends in ((near, far), (far, near)):
                    threading.Thread(
                        target=_pass_on, args=(*ends, self._silent), daemon=True
                    ).start()


def _pass_on(source: socket.socket, to: socket.socket, silent: threading.Event) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            if not silent.is_set():
                to.sendall(data)
        if not silent.is_set():
            to.shutdown(socket.SHUT_WR)


@contextmanager
def way_to(endpoint: str) -> Iterator[tuple[Way, str]]:
    host, port = endpoint.removeprefix("http://").split(":")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        way = Way(listener, (host, int(port)))
        yield way, f"http://127.0.0.1:{listener.getsockname()[1]}"
        way.close()


@contextmanager
def sending(protocol: str, endpoint: str) -> Iterator[RequestExporter]:
    variables = {
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_TIMEOUT": "3",
    }
    (exporter,) = trace_exporters(read_standard(variables).values)
    assert isinstance(exporter, RequestExporter)
    yield exporter
    exporter.shutdown()


def _send(exporter: RequestExporter) -> None:
    while exporter.export_request(REQUEST).error:  # the machine may be slow
        pass


@pytest.mark.parametrize("protocol", RECEIVERS)
def test_who_is_still_there_is_sent_to_by_another(protocol: str) -> None:
    with (
        RECEIVERS[protocol]() as receiver,
        way_to(receiver.endpoint) as (way, endpoint),
        # Of two who send to one place neither gets what the other still holds.
        sending(protocol, endpoint) as exporter,
        sending(protocol, endpoint) as another,
    ):
        for each in (exporter, another):
            _send(each)
        way.fall_silent()
        for each in (exporter, another):
            _send(each)
