"""Compilations and recompilations by Dynamo, as its own callbacks tell.

Dynamo is not imported for it. Why a function was compiled again stands in its metrics, which are complete only after
the callback: they are read when the record is sent off.
"""

from __future__ import annotations

from time import perf_counter_ns as now
from typing import Any, NamedTuple

from otel_torch_modules._events import COMPILATION, Detail
from otel_torch_modules._recording.causes.happened import Happened
from otel_torch_modules._recording.torch_private.compilation import (
    compilation_callbacks,
    compilation_metrics,
    compilation_told,
)


class _Compilation(NamedTuple):
    thread: int
    start: int
    end: int
    id: str | None  # none where torch does not say
    trigger: str | None


class Compilation:
    """Adds a cause for each time that Dynamo compiled, when asked to.

    Args:
        happened: what it is added to.
    """

    def __init__(self, happened: Happened) -> None:
        self._happened = happened
        self._on_start = happened.guarded(self._starts, "where a compilation starts")
        self._on_end = happened.guarded(self._ends, "where a compilation ends")
        self._started: tuple[int, int] | None = None  # thread and time
        self.ended: list[_Compilation] = []
        """Those that `collect` has not added yet."""
        self._handler: Any = None

    def install(self) -> None:
        """Watch Dynamo, if it is there."""
        self.record_opens()

    def uninstall(self) -> None:
        """Undo `install`."""
        handler, self._handler = self._handler, None
        if handler is not None:
            if self._on_start in handler.start_callbacks:  # else Dynamo was reset
                handler.remove_start_callback(self._on_start)
            if self._on_end in handler.end_callbacks:
                handler.remove_end_callback(self._on_end)

    def record_opens(self) -> None:
        """Watch Dynamo where it has come since, or has dropped all callbacks: that is a part of its reset."""
        handler = self._handler or compilation_callbacks()
        if handler is not None and self._on_start not in handler.start_callbacks:
            self._handler = handler
            handler.register_start_callback(self._on_start)
            handler.register_end_callback(self._on_end)

    def _starts(self, *_: Any) -> None:
        self._started = self._happened.code(), now()

    def _ends(self, *arguments: Any) -> None:
        started, self._started = self._started, None
        if started is not None:
            told = compilation_told(*arguments)
            self.ended.append(_Compilation(*started, now(), *told))

    def collect(self) -> None:
        """Add those that ended since the last time."""
        if not self.ended:
            return
        ended = self.ended.copy()
        del self.ended[: len(ended)]
        metrics = compilation_metrics()
        for thread, start, end, identifier, trigger in ended:
            function = file = reason = None
            for entry in metrics:
                if identifier and str(entry.compile_id) == identifier and entry.co_name:
                    function, file = entry.co_name, entry.co_filename
                    reason = entry.recompile_reason
            values = (identifier, trigger, function, file, reason)
            self._happened.add(COMPILATION, thread, start, end, Detail(None, values))
