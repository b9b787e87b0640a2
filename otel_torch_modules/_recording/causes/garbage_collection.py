"""Collections of garbage that take long: a full one of a large program takes hundreds of milliseconds.

Python prints and forgets what a callback of the collector raises, and a signal that came during a long collection is
handled in the first Python code that runs after it: were that code ours, what the handler raises would be lost. So the
callbacks are made of functions of C alone. Each is ``setattr(sink, "start" or "stop", info)``, and the sinks have
properties of these names, whose setters take the time, or keep what the collector says. What is known of a stop is kept
as one: a collection may come between any two lines of who takes it out, and of two lists only one might give way to it.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable
from functools import partial
from operator import is_
from threading import get_ident
from time import perf_counter_ns as now
from typing import Any, Final

from otel_torch_modules._events import COLLECTION, Detail
from otel_torch_modules._recording.causes.happened import Happened

SHORTEST = 1_000_000
"""A collection that takes less (ns) leaves nothing."""

_MOST: Final = 4096  # collections between two records; of more the latest

_ignore: Any = is_  # takes two arguments and does nothing
_go_on: Any = next  # is given what it is to return at the end, which never comes


class _Starts(map):  # type: ignore[type-arg]
    """An iterator that goes one on at each start."""

    start = property(fset=_go_on)
    stop = property(fset=_ignore)


class _Told(deque[dict[str, int]]):
    """What the collector says at a stop, until `_Stops` has taken it."""

    start = property(fset=_ignore)
    stop = property(fset=deque.append)


class _Stops(map):  # type: ignore[type-arg]
    """An iterator that goes one on at each stop."""

    start = property(fset=_ignore)
    stop = property(fset=_go_on)


class GarbageCollection:
    """Adds a cause for each long collection, when asked to.

    Args:
        happened: what it is added to.
        code_of: returns the code of the thread with an identifier, -1 where it did nothing else that is recorded.
    """

    def __init__(self, happened: Happened, code_of: Callable[[int], int]) -> None:
        self._happened = happened
        self._code_of = code_of
        self._starts: deque[int] = deque(maxlen=_MOST)
        self.stops: deque[tuple[int, int, dict[str, int]]] = deque(maxlen=_MOST)
        """The ends of those that `collect` has not added yet."""
        told = _Told()
        stop = zip(iter(now, None), iter(get_ident, None), iter(told.pop, None), strict=True)
        sinks = (
            _Starts(self._starts.append, iter(now, None)),
            told,
            _Stops(self.stops.append, stop),
        )
        self._callbacks: list[Callable[..., Any]] = [partial(setattr, sink) for sink in sinks]

    def install(self) -> None:
        """Watch the collector."""
        gc.callbacks.extend(self._callbacks)

    def uninstall(self) -> None:
        """Undo `install`."""
        for callback in reversed(self._callbacks):  # the last needs the one before it
            if callback in gc.callbacks:  # else the program has cleared the list
                gc.callbacks.remove(callback)

    def collect(self) -> None:
        """Add those that ended since the last time."""
        starts, stops = self._starts, self.stops
        while stops:
            end, thread, told = stops.popleft()
            start = end
            while starts and starts[0] <= end:  # more than one where too many were to be kept
                start = starts.popleft()
            if end - start >= SHORTEST:
                detail = Detail(None, (told["generation"], told["collected"]))
                self._happened.add(COLLECTION, self._code_of(thread), start, end, detail)
