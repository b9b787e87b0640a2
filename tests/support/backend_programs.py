"""Starts the real programs of the tests on free ports of 127.0.0.1, and stops exactly what it started."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
DEPLOY = REPOSITORY / "deploy"
START_LIMIT = 60  # seconds; two cores may be busy with other tests
STOP_LIMIT = 20


def find(program: str) -> str:
    """Return the path of `jaeger` or `otelcol`; skip the test where it is missing, fail under CI."""
    folder = Path(os.environ.get("OTEL_TORCH_MODULES_TEST_BACKENDS", REPOSITORY / ".backends"))
    path = folder / program
    if not path.is_file():
        missing(
            f"{path} is missing: set OTEL_TORCH_MODULES_TEST_BACKENDS to a folder with the "
            "programs jaeger and otelcol"
        )
    return str(path)


def find_on_path(program: str, package: str) -> str:
    """Return the path of a program that Debian's `package` installs; skip, or fail under CI."""
    path = shutil.which(program)
    if path is None:
        missing(f"{program} is missing: install Debian's package {package}")
    return path


def missing(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that nobody listens on, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for candidate in sockets:
            candidate.bind(("127.0.0.1", 0))
        return [candidate.getsockname()[1] for candidate in sockets]
    finally:
        for candidate in sockets:
            candidate.close()


_Program = TypeVar("_Program", bound="Program")


class Program:
    """A running program: ready when `ready_url` answers with a success.

    Its output goes to `log`, which the error shows when it does not start.
    """

    def __init__(
        self, command: Sequence[str], environ: Mapping[str, str], ready_url: str, log: Path
    ) -> None:
        self._command = list(command)
        self._environ = {"PATH": os.environ["PATH"], **environ}
        self._ready_url = ready_url
        self.log = log
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command, env=self._environ, stdout=output, stderr=subprocess.STDOUT
            )
        try:
            wait_until_answers(self._ready_url, self._process)
        except (ChildProcessError, TimeoutError) as error:
            self.kill()
            raise RuntimeError(f"{error}\n{self.log.read_text()[-8000:]}") from None

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        """Ask the program to end, as a service manager does, and wait for it."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_LIMIT)
            except subprocess.TimeoutExpired:
                self.kill()
                raise

    def kill(self) -> None:
        """End the program as a power cut does."""
        self._process.kill()
        self._process.wait()

    def __enter__(self: _Program) -> _Program:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()


def wait_until_answers(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ChildProcessError(f"{process.args} ended with {process.returncode}")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.02)
    raise TimeoutError(f"{url} did not answer within {START_LIMIT} s")
