"""A receiver over HTTP whose answer does not come to an end."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tests.support.served import served

DRIP_S = 0.01


class Endless(NamedTuple):
    """An answer: how it begins, and what comes again and again; it comes to its end where that is nothing."""

    head: bytes
    more: bytes


class Speaker:
    """What has been said at `endpoint`."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.connections = 0
        self.said = 0
        """Bytes, of all answers."""


@contextmanager
def speaking(answer: Endless, *, pause_s: float, most: int) -> Iterator[Speaker]:
    """Answer each request, and go on with a pause after each piece, until `most` bytes were said or nobody listens."""
    over = threading.Event()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            speaker.connections += 1
            try:
                while self.read() and not over.is_set():
                    self.wfile.write(answer.head)
                    if answer.more:
                        return self.go_on()
            except OSError:  # nobody listens
                pass

        def read(self) -> bool:
            """Read a request; return whether there is one."""
            length = 0
            first = line = self.rfile.readline()
            while line.strip():
                name, _, value = line.lower().partition(b":")
                if name == b"content-length":
                    length = int(value)
                line = self.rfile.readline()
            self.rfile.read(length)
            return bool(first)

        def go_on(self) -> None:
            while speaker.said < most and not over.wait(pause_s):
                self.wfile.write(answer.more)
                speaker.said += len(answer.more)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = False

    server = Server(("127.0.0.1", 0), Handler)
    speaker = Speaker(f"http://127.0.0.1:{server.server_address[1]}")
    with served(server):
        try:
            yield speaker
        finally:
            over.set()
