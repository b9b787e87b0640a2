"""The backward passes that run, and how it is seen that one was given up.

The engine calls what is queued when all nodes have run. Where an error ends the graph task it lets go of it without a
word, and so it does where compiled autograd has run in its place: then a weak reference tells. Its callback is made of
functions of C alone, for Python runs it where an exception can reach nobody, and a signal handler that struck there
would raise in vain.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import repeat, tee
from operator import itemgetter
from time import perf_counter_ns as now
from typing import Any
from weakref import ref

from otel_torch_modules._events import TASK_END, Event
from otel_torch_modules._recording.open_log import OpenLog


class GraphTask:
    """A graph task that runs, or was given up.

    Args:
        number: the engine's.
        code: the least that no other has: alike in all steps, unlike the engine's numbers.
        accumulates: it leaves gradients with the leaves that it comes to, not with those alone that it was asked for.
        into: where its marks are written to.
        begin: the event of its beginning, which goes there before them.
    """

    __slots__ = (
        "_end",
        "_expected",
        "_given_up",
        "accumulates",
        "began",
        "begin",
        "code",
        "into",
        "number",
        "selective",
    )

    def __init__(
        self,
        number: int,
        code: int,
        accumulates: bool,
        into: OpenLog,
        begin: tuple[Event, int, int, int, int | None],
    ) -> None:
        self.number = number
        self.code = code
        self.began = begin[3]
        self.begin = iter(begin)  # whoever is first writes it, at once: the others find nothing
        self.accumulates = accumulates
        # It may leave nodes out. With phases only there are so few marks that each is asked for itself.
        self.selective = into.phases_only or not accumulates
        self.into = into
        self._expected = [False]  # read by what is of C alone
        self._end: ref[Callable[[], None]] | None = None
        self._given_up: Any = None

    def watch(
        self, end: Callable[[], None], thread: int, log: list[Any] | None, expected: bool
    ) -> None:
        """Write into `log` at once when `end`, which nobody but the engine has, is let go of."""
        self._expected[0] = expected
        told = map(itemgetter(0), repeat(self._expected))
        event = zip(repeat(TASK_END), repeat(thread), repeat(self.code), iter(now, None), told)
        written, self._given_up = tee(event)
        kept = [] if log is None else log
        # Not the log's own way to extend, which may be in Python.
        self._end = ref(end, partial(next, map(partial(list.extend, kept), written)))

    @property
    def expected(self) -> bool:
        """Where it is given up, that is no error."""
        return self._expected[0]

    def fails(self) -> None:
        """Take note that it is one, though it was not to be."""
        self._expected[0] = False

    @property
    def given_up(self) -> bool:
        """Whether the engine has let go of it."""
        return self._end is not None and self._end() is None

    @property
    def given_up_at(self) -> int:
        """When that was."""
        _, _, _, time, _ = next(self._given_up)
        return int(time)
