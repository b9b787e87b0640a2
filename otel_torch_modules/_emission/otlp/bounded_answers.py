"""What a receiver answers over HTTP, up to a length and a time: it may never come to an end.

The time-out of a socket is for each piece that comes, and `http.client` reads lines, and answers that say "continue",
for as long as there are more.
"""

from __future__ import annotations

from functools import cache
from http.client import HTTPResponse
from io import BufferedReader, RawIOBase
from socket import socket
from typing import Any, Final

from requests.adapters import HTTPAdapter

from otel_torch_modules._emission.clocks import monotonic

_MOST_BYTES: Final = 1 << 20  # of an answer, with its head


class BoundedAnswers(HTTPAdapter):
    """Sends as `requests` does, to a receiver that may be a proxy's, and hears an answer in the time given for it."""

    def init_poolmanager(self, *arguments: Any, **more: Any) -> None:
        """Make the connections' pools."""
        super().init_poolmanager(*arguments, **more)
        _bound(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **more: Any) -> Any:
        """Return the same for connections by a proxy."""
        manager = super().proxy_manager_for(proxy, **more)
        _bound(manager)
        return manager


def _bound(manager: Any) -> None:
    pools = manager.pool_classes_by_scheme
    manager.pool_classes_by_scheme = {scheme: _bounded(pool) for scheme, pool in pools.items()}


@cache
def _bounded(pool: Any) -> type:
    connection = pool.ConnectionCls
    if issubclass(connection.response_class, _Answer):
        return pool  # type: ignore[no-any-return]
    bounded = type(connection.__name__, (connection,), {"response_class": _Answer})
    return type(pool.__name__, (pool,), {"ConnectionCls": bounded})


class _Answer(HTTPResponse):
    """Takes no longer, as a whole, than the socket's time-out says when it begins."""

    def __init__(self, sock: socket, *arguments: Any, **more: Any) -> None:
        super().__init__(sock, *arguments, **more)
        timeout_s = sock.gettimeout()
        if timeout_s is not None:
            self.fp = BufferedReader(_Pieces(sock, self.fp.detach(), timeout_s))


class _Pieces(RawIOBase):
    """What comes by `sock`, in all that there is time and patience for."""

    def __init__(self, sock: socket, source: RawIOBase, timeout_s: float) -> None:
        self._sock = sock
        self._source = source
        self._deadline = monotonic() + timeout_s
        self._left = _MOST_BYTES

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read some bytes.

        Raises:
            OSError: the time is up, or there were too many.
        """
        left_s = self._deadline - monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        if not self._left:
            raise ConnectionError(f"the answer is longer than {_MOST_BYTES} bytes")
        self._sock.settimeout(left_s)
        count: int | None = self._source.readinto(memoryview(buffer)[: self._left])
        self._left -= count or 0
        return count

    def close(self) -> None:
        """Let go of the socket."""
        self._source.close()
        super().close()
