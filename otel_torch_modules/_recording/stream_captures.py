"""Whether a stream's work is being captured into a graph, of whatever thread: who asks for an event then kills the
capture.

All ways to capture that torch has go through one method of the graph's class.
"""

from __future__ import annotations

import threading
from typing import Any
from weakref import ref

from otel_torch_modules._recording.torch_private.devices import graph_classes
from otel_torch_modules._recording.wrapped import Function, Wrapped, uninstall_all


class StreamCaptures:
    """Knows of all captures that begin while it is installed.

    `lock` keeps one from beginning: who holds it, and finds that there is none, may ask for events.
    """

    def __init__(self) -> None:
        self.forget()
        self._wrapped = [
            Wrapped(name, around, graph)
            for graph in graph_classes()
            for name, around in (
                ("capture_begin", self._around_begin),
                ("capture_end", self._around_end),
            )
        ]

    def forget(self) -> None:
        """Know of none: in a forked child there is none."""
        self.lock = threading.RLock()  # a signal handler of the program's may capture in here
        self._graphs: list[ref[Any]] = []  # that capture; one that is gone has ended without a word

    def install(self) -> None:
        """Learn of captures from now on."""
        for wrapped in self._wrapped:
            wrapped.install()

    def uninstall(self) -> None:
        """Undo `install`."""
        uninstall_all(self._wrapped)
        self._graphs = []

    @property
    def any(self) -> bool:
        """Whether there is one."""
        return bool(self._graphs) and any(graph() is not None for graph in self._graphs)

    def _around_begin(self, original: Function) -> Function:
        def capture_begin(graph: Any, *args: Any, **kwargs: Any) -> Any:
            with self.lock:
                self._graphs = [*self._others(graph), ref(graph)]
            try:
                return original(graph, *args, **kwargs)
            except BaseException:
                self._end(graph)
                raise

        return capture_begin

    def _around_end(self, original: Function) -> Function:
        def capture_end(graph: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return original(graph, *args, **kwargs)
            finally:
                self._end(graph)

        return capture_end

    def _end(self, graph: Any) -> None:
        with self.lock:
            self._graphs = self._others(graph)

    def _others(self, graph: Any) -> list[ref[Any]]:
        return [known for known in self._graphs if known() not in (None, graph)]
