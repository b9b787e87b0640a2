"""A file that says where this process stands, for whoever looks when it was killed and could say nothing more.

It is written anew, by a rename, when the process stands elsewhere than before, and at most once a second. A folder that
cannot be written is said once, and tried again; one that is slow is written to so much less often. At the end of the
process the file is removed: one that is there when a process begins is its predecessor's, who had no time for that.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic, time_ns
from typing import Any

from otel_torch_modules._control import files
from otel_torch_modules._engine.look_interval import look_interval
from otel_torch_modules._interruption import is_interruption, suppressed
from otel_torch_modules._log import warn
from otel_torch_modules.environment_variables import OTEL_TORCH_MODULES_BLACKBOX

_LOGGER = logging.getLogger("otel_torch_modules")

_PATIENCE_S = 1.0  # at the end, with a file system that does not answer


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
        clock: Callable[[], float] = monotonic,
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
        self._said: set[str] = set()

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
        try:
            left = files.read(self._path)
        except (OSError, ValueError) as error:  # there is none, or it is none of ours
            if is_interruption(error):
                raise
            return None
        if files.is_of_another_that_runs(left):
            self._closed = True
            self._say_once("is another process's that runs: each job needs a folder")
            return None
        return left

    def look(self) -> None:
        """Write the file, if it is time and there is anything new."""
        begun = self._clock()
        if begun < self._due or self._closed or self._path is None:
            return
        standing = self._describe()
        if standing is not None and standing != self._written:
            self._write(self._path, standing)
        self._due = begun + look_interval(self._clock() - begun)

    def _write(self, path: Path, standing: Mapping[str, Any]) -> None:
        try:
            with self._lock:
                if not self._closed:
                    self._written = {}  # a part of it, for `close`
                    files.make_folder(self._folder)
                    files.put(path, {**standing, **files.this_process(), "time": time_ns()})
                    self._written = standing
        except OSError as error:
            if is_interruption(error):
                raise
            self._say_once(f"cannot be written: {error.strerror or error}; it is tried again")

    def _say_once(self, what: str) -> None:
        if what not in self._said:
            self._said.add(what)
            warn(_LOGGER, "%s: %s %s", OTEL_TORCH_MODULES_BLACKBOX, self._path, what)

    def close(self) -> None:
        """Remove the file: the process comes to its end by itself."""
        self._closed = True
        if self._lock.acquire(timeout=_PATIENCE_S):  # else the worker waits for the file system
            with suppressed(OSError):
                if self._written is not None and self._path is not None:
                    files.remove(self._path)
            self._lock.release()
