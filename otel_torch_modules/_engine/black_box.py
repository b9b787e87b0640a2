"""A file that says where this process stands, for whoever looks when it was killed and could say nothing more.

It is written anew, by a rename, when the process stands elsewhere than before, and at most once a second. At the end of
the process it is removed: one that is there when a process begins is its predecessor's, who had no time for that.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from otel_torch_modules._log import warn

_LOGGER = logging.getLogger("otel_torch_modules")

_INTERVAL_S = 1.0
_MOST_BYTES = 1 << 20  # of a file that is read: ours have a few thousand


class BlackBox:
    """All methods but `close` are called on the worker thread.

    Args:
        folder: where the file is to be; made where it is not there.
        rank: of this process; None where it has none, whose file is that of rank 0.
        describe: returns where the process stands, as what JSON has; None where it stands nowhere.
        clock: seconds; tests hand in their own.
    """

    def __init__(
        self,
        folder: Path,
        rank: Callable[[], int | None],
        describe: Callable[[], Mapping[str, Any] | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._rank = rank
        self._describe = describe
        self._clock = clock
        self._lock = threading.Lock()
        self._path: Path | None = None
        self._written: Mapping[str, Any] | None = None
        self._due = clock()
        self._closed = False

    def forget(self) -> None:
        """Have no file: a forked child has none, and its parent's is the parent's."""
        self._lock = threading.Lock()
        self._path = None
        self._closed = True

    def left_behind(self) -> dict[str, Any] | None:
        """Return what a process of this rank that was killed has left, the first time; None where there is nothing."""
        if self._path is not None or self._closed:
            return None
        self._path = self._folder / f"rank-{self._rank() or 0}.json"
        left = _read(self._path)
        if left is not None and _runs(left):
            self._closed = True
            warn(_LOGGER, "%s is another process's that runs: each job needs a folder", self._path)
            return None
        return left

    def look(self) -> None:
        """Write the file, if it is time and there is anything new."""
        now = self._clock()
        if now < self._due or self._closed or self._path is None:
            return
        self._due = now + _INTERVAL_S
        standing = self._describe()
        if standing is None or standing == self._written:
            return
        try:
            self._write(self._path, {**standing, **_self(), "time": time.time_ns()})
        except OSError as error:
            self._closed = True
            warn(_LOGGER, "%s cannot be written: %s", self._path, error.strerror)
        self._written = standing

    def _write(self, path: Path, content: Mapping[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        with open(part, "w", encoding="utf-8", opener=_for_its_owner) as file:
            json.dump(content, file)
        with self._lock:
            if not self._closed:
                part.replace(path)

    def close(self) -> None:
        """Remove the file: the process comes to its end by itself."""
        with self._lock:
            self._closed = True
            if self._written is not None and self._path is not None:
                self._path.unlink(missing_ok=True)
                self._path.with_suffix(".part").unlink(missing_ok=True)


def _self() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid()}


def _runs(left: Mapping[str, Any]) -> bool:
    """Return whether the process that wrote `left` is another one, and alive, as far as can be seen from here."""
    pid = left.get("pid")
    if left.get("host") != socket.gethostname() or pid == os.getpid() or not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return pid > 0


def _read(path: Path) -> dict[str, Any] | None:
    """Return what a file says; None where there is none, or it is none of ours."""
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(_MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _for_its_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
