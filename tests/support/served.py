"""Runs a server in a thread beside a test."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

LOOK_S = 0.01  # a server that is to end looks so often


@contextmanager
def served(server: socketserver.BaseServer) -> Iterator[None]:
    """Let `server` serve, and close it afterwards."""
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(LOOK_S,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
