"""Which threads have not got on for a while: what they have done is compared with what it was at the last look."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from time import monotonic
from typing import NamedTuple


class Standstill:
    """A thread has not got on since a moment.

    Args:
        thread: its identifier.
        since: when that was seen, in seconds of the watch's clock.
        due: after how many seconds it is to be spoken of.
    """

    __slots__ = ("counted", "due", "end", "said", "since", "thread")

    def __init__(self, thread: int, since: float, due: float) -> None:
        self.thread = thread
        self.since = since
        self.due = due
        self.counted = 0.0  # seconds in which this process ran
        self.said = 0  # how often it was spoken of
        self.end: float | None = None  # when the thread got on

    def seconds(self, now: float) -> float:
        """Return how long it has lasted, or did."""
        return (now if self.end is None else self.end) - self.since


class Looked(NamedTuple):
    """What one look has found."""

    due: list[Standstill]
    over: list[Standstill]  # of those that were spoken of


class Watch:
    """Looks at all threads a few times a second.

    A wait is due after `timeout_s`, and again after twice as long, four times as long, and so on. A process that was
    stopped as a whole, or whose threads had no turn, has waited for nobody: of the time between two looks no more than
    half of `timeout_s` counts.

    Args:
        timeout_s: seconds.
        clock: seconds; tests hand in their own.
    """

    def __init__(self, timeout_s: float, clock: Callable[[], float] = monotonic) -> None:
        self._timeout_s = timeout_s
        self._clock = clock
        self.forget()

    def forget(self) -> None:
        """Know of no thread."""
        self._seen: dict[int, tuple[Hashable, Standstill]] = {}
        self._looked = self._clock()

    def look(self, states: Mapping[int, Hashable]) -> Looked:
        """Compare what each thread has done with what it had at the last look.

        Args:
            states: by thread, a value that is another one whenever the thread has got on.
        """
        now = self._clock()
        gone, self._looked = now - self._looked, now
        seen, self._seen = self._seen, {}
        looked = Looked([], [])
        for thread, state in states.items():
            before = seen.get(thread)
            if before is not None and before[0] == state:
                wait = before[1]
                wait.counted += min(gone, self._timeout_s / 2)
                if wait.counted >= wait.due:
                    wait.due *= 2
                    looked.due.append(wait)
            else:
                if before is not None and before[1].said:
                    before[1].end = now
                    looked.over.append(before[1])
                wait = Standstill(thread, now, self._timeout_s)
            self._seen[thread] = state, wait
        return looked
