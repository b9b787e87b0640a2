"""How the end of a backward is seen, whichever way it ends."""

from __future__ import annotations

from collections.abc import Callable

from otel_torch_modules._recording.torch_private import queue_callback


class TaskEnd:
    """Called by the engine when a graph task has run all nodes; deleted with the graph task when it failed.

    Args:
        on_ran: called when all nodes have run.
        on_end: called once, with True when the task has come to its end and False when an error ended it.
    """

    __slots__ = ("_again", "_left", "_on_end", "_on_ran")

    def __init__(self, on_ran: Callable[[], None], on_end: Callable[[bool], None]) -> None:
        self._on_ran = on_ran
        self._on_end = on_end
        self._again = True
        self._left = False

    def __call__(self) -> None:
        if self._again:
            # Callbacks run in the order in which they were queued, also those queued meanwhile: now
            # the wait of DistributedDataParallel for its all-reduce comes before the end, not after it.
            self._again = False
            queue_callback(self)
            self._on_ran()
        else:
            self._leave(finished=True)

    def __del__(self) -> None:
        self._leave(finished=False)

    def _leave(self, finished: bool) -> None:
        if not self._left:
            self._left = True
            self._on_end(finished)
