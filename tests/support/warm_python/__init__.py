"""Programs that find torch imported already, which takes each that trains three seconds of its own.

They are forked from a process that imports torch, and Dynamo as whatever makes an optimizer does, but nothing of
OpenTelemetry's or of this package, once for all tests. For programs that begin so, and in all else each is a process
like any: it has its own variables, folder and streams, the package comes in where it does at the end of
`import torch`, and it ends as Python ends.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

_SERVER = Path(__file__).with_name("server.py")
_AT_START = ("LD_", "MALLOC_", "MKL_", "OMP_", "PYTHON", "TORCH")  # only a new process reads them


class WarmPython:
    """A server, and the programs that it becomes, one at a time."""

    def __init__(self) -> None:
        self._client, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
        self._at_start = _at_start(kept)
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, _SERVER, str(theirs.fileno())],
                env={**kept, "TORCH_DEVICE_BACKEND_AUTOLOAD": "0"},
                pass_fds=[theirs.fileno()],
            )

    def has(self, variables: Mapping[str, str]) -> bool:
        """Return whether those of `variables` that only a new process reads are as they were when it began."""
        return _at_start(variables) == self._at_start

    def run(
        self, script: Path, variables: Mapping[str, str], folder: Path, time_limit: float
    ) -> subprocess.CompletedProcess[str]:
        """Run `script` to its end, in `folder` and with these variables only.

        Args:
            time_limit: in seconds.

        Raises:
            subprocess.TimeoutExpired: it took longer, and was killed.
        """
        said, stdout = os.pipe()
        complained, stderr = os.pipe()
        request = json.dumps([str(script), str(folder), dict(variables)]).encode()
        socket.send_fds(self._client, [request], [stdout, stderr])
        os.close(stdout)
        os.close(stderr)
        with ThreadPoolExecutor(2) as readers:
            texts = [readers.submit(_read, stream) for stream in (said, complained)]
            code = self._end(time_limit)
        command = [sys.executable, str(script)]
        return subprocess.CompletedProcess(command, code, *[text.result() for text in texts])

    def _end(self, time_limit: float) -> int:
        program = int(self._client.recv(32))
        self._client.settimeout(time_limit)
        try:
            return int(self._client.recv(32))
        except TimeoutError:
            os.kill(program, signal.SIGKILL)
            raise subprocess.TimeoutExpired(str(program), time_limit) from None
        finally:
            self._client.settimeout(None)

    def close(self) -> None:
        """End the server."""
        self._client.close()
        self._server.wait()


@cache
def warm_python() -> WarmPython:
    """Return the server of all tests."""
    server = WarmPython()
    atexit.register(server.close)
    return server


def _at_start(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if name.startswith(_AT_START)}


def _read(stream: int) -> str:
    with open(stream) as text:
        return text.read()
