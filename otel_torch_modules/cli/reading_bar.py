"""A bar that shows how far the reading of a long source is: on standard error, and where that is a terminal alone."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

_PATIENCE_S = 1.0  # what takes no longer needs no bar


class ReadingBar:
    """Appears when a source takes longer than a second, and is gone when it is read.

    Args:
        console: where it is drawn, if that is a terminal.
        clock: seconds.
    """

    def __init__(
        self, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = Console(stderr=True) if console is None else console
        self._clock = clock
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def begin(self, name: str, size: int | None) -> None:
        """See `_reading.progress`."""
        self._name, self._size = name, size
        self._read = 0
        self._due = self._clock() + _PATIENCE_S

    def advance(self, count: int) -> None:
        """See `_reading.progress`."""
        self._read += count
        if self._bar is not None:
            self._bar.update(self._task, completed=self._read)
        elif self._console.is_terminal and self._clock() >= self._due:
            self._bar = Progress(
                TextColumn("reading {task.description}"),
                BarColumn(),
                DownloadColumn(),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            self._task = self._bar.add_task(self._name, total=self._size, completed=self._read)
            self._bar.start()

    def end(self) -> None:
        """See `_reading.progress`."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
