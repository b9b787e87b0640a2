"""Steps that have ended and may turn out to go on, by a second optimizer: nobody has sent them yet.

Here they lie until the loop goes on with them, or sends them, or the worker does: who removes one owns it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from weakref import ref

from otel_torch_modules._interruption import is_interruption, suppressed
from otel_torch_modules._recording.thread_state import ThreadState
from otel_torch_modules._records import Record

_Ended = tuple[Record, ref[ThreadState]]
"""And the thread in which it has ended: while that lives, it may go on with it."""


class EndedSteps:
    """There is one at most, but for a moment.

    Args:
        hurry: returns what to call, in C, where the thread ends that has ended a step.
        send: sends off the record of one.
    """

    def __init__(
        self, hurry: Callable[[], Callable[[object], None]], send: Callable[[Record], None]
    ) -> None:
        self._hurry = hurry
        self._send = send
        self._thread: ref[ThreadState] | None = None  # that has ended the last one
        self._ended: deque[_Ended] = deque()

    def put(self, record: Record, thread: ThreadState) -> None:
        """Take the record of a step that has ended in `thread`."""
        known = self._thread
        if known is None or known() is not thread:
            known = self._thread = ref(thread, self._hurry())
        self._ended.append((record, known))

    def take_back(self) -> bool:
        """Return whether the last one is the loop's again: the worker has not had it."""
        try:
            self._ended.pop()
        except IndexError as error:
            if is_interruption(error):
                raise
            return False
        return True

    def clear(self) -> None:
        """Drop them: in a forked child, which has another worker to call back, or for an error of ours."""
        self._thread = None
        self._ended.clear()

    def send_all(self) -> None:
        """Send off what there is."""
        for ended in list(self._ended):
            self._send_off(ended)

    def send_idle(self, is_idle: Callable[[], bool]) -> None:
        """Send off what nobody goes on with: all is idle, or it has ended in a thread that is gone."""
        for ended in list(self._ended):  # first: what is put here meanwhile is not idle
            if is_idle() or ended[1]() is None:
                self._send_off(ended)

    def _send_off(self, ended: _Ended) -> None:
        with suppressed(ValueError):  # somebody else has it
            self._ended.remove(ended)
            self._send(ended[0])
