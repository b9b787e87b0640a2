"""Says of a thread that does not get on where it stands: one line of log, and a trace of what it is at.

Not of every thread that does nothing: a loop that is over, a cell of a notebook that is done, a server without
requests and a program in a debugger wait for nobody. The threads that are looked at are those that have called modules.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from time import monotonic
from typing import Protocol

from otel_torch_modules import semconv
from otel_torch_modules._engine.stacks import Position, Stack, all_stacks, positions_of, stack_of
from otel_torch_modules._engine.watch import Standstill, Watch
from otel_torch_modules._interruption import is_interruption
from otel_torch_modules._log import inform, report, warn
from otel_torch_modules._records import Record, Stall

_LOGGER = logging.getLogger("otel_torch_modules")

_MOST_KEPT = 16
_MOST_FAILURES = 5


class Standing(Protocol):
    """Knows what each thread has done and is doing."""

    trained: set[int]

    def states(self) -> Mapping[int, Hashable]:
        """Return for each thread a value that is another one whenever it has got on."""

    def opened(self, thread: int) -> Record | None:
        """Return the step or the evaluation that is open in a thread."""

    @property
    def awaited(self) -> int:
        """The number of the step that is open, or else of the next."""

    def snapshot(self, thread: int, stall: Stall) -> Record:
        """Return what a thread has done so far as a record of its own that ends now."""


class Stalls:
    """All methods are called on the worker thread.

    Args:
        timeout_s: seconds for which nothing happens before that is said.
        standing: what the threads do.
        send: sends a stall; calls what it is given with the innermost place that is open, empty where there is none,
            and for how many seconds that has been.
        rank: of this process; None where it has none.
        collectives: which of them this process has begun and not ended.
        clock: seconds; tests hand in their own.
    """

    def __init__(
        self,
        timeout_s: float,
        standing: Standing,
        send: Callable[[Record, Stall, Callable[[str, float], None]], None],
        rank: Callable[[], int | None],
        collectives: Callable[[], tuple[str, ...]],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._standing = standing
        self._send = send
        self._rank = rank
        self._collectives = collectives
        self._clock = clock
        self._watch = Watch(timeout_s, clock)
        self._failures = 0
        self.forget()

    def forget(self) -> None:
        """Know of nothing that was: in a forked child."""
        self._watch.forget()
        self._in_step: dict[int, tuple[Position, ...]] = {}  # where a thread stood when last seen
        self._said: list[_Said] = []

    def look(self) -> None:
        """Say what is to be said now. Errors of ours end all looking when there are too many."""
        if self._failures >= _MOST_FAILURES:
            return
        try:
            self._look()
        except BaseException as error:
            if is_interruption(error):
                raise
            self._failures += 1
            if self._failures == 1:
                report(_LOGGER, "Where threads stand cannot be told; training goes on", error=error)

    def _look(self) -> None:
        states = self._standing.states()
        for thread in self._standing.trained:
            if self._standing.opened(thread) is not None:
                self._in_step[thread] = positions_of(thread)
        found = self._watch.look(states)
        for wait in found.over:
            for said in self._said:
                if said.wait is wait:
                    self._goes_on(said)
        for wait in found.due:
            self._consider(wait)

    def _consider(self, wait: Standstill) -> None:
        stack = stack_of(wait.thread)
        if stack.is_debugged or not self._is_waited_for(wait.thread, stack):
            return
        seconds = wait.seconds(self._clock())
        said = _Said(wait, self._standing.opened(wait.thread), self._standing.awaited)
        if stack.is_compiling:
            inform(_LOGGER, "Compiling for %.0f s %s: %s", seconds, self._where(said), stack)
            return
        opened = said.opened
        stall = Stall(
            seconds=seconds,
            number=wait.said,
            reason=semconv.STALL_NO_PROGRESS,
            frames=str(stack),
            stacktrace=all_stacks(),
            collectives=self._collectives(),
            opened=opened if opened is not None and opened.log else None,
        )
        wait.said += 1
        self._said = [*(one for one in self._said if one.wait is not wait), said][-_MOST_KEPT:]
        say = partial(self._say, said, stall)
        try:
            self._send(self._standing.snapshot(wait.thread, stall), stall, say)
        finally:
            if not said.told:  # it could not be read, or nothing is to be sent
                say("", 0.0)

    def _is_waited_for(self, thread: int, stack: Stack) -> bool:
        """Return whether what a thread does not get on with is anything that is to get on."""
        if stack.in_recording:
            return True
        if thread not in self._standing.trained:
            return False
        if self._standing.opened(thread) is not None:
            return stack.in_program
        return stack.in_torch or stack.repeats(self._in_step.get(thread, ()))

    def _say(self, said: _Said, stall: Stall, place: str, seconds: float) -> None:
        said.told = True
        at = f"in {place} (since {seconds:.0f} s)" if place else "outside any phase"
        warn(
            _LOGGER, "No progress for %.0f s %s: %s; %s", stall.seconds, self._where(said), at, stall.frames
        )  # fmt: skip

    def tell(self, record: Record) -> None:
        """Say in `record`, which has ended, for how long nothing happened in it, or before it, if that was said."""
        for said in [said for said in self._said if said.is_of(record)]:
            self._goes_on(said)
            record.stalled = max(record.stalled, said.wait.seconds(self._clock()))
            self._said.remove(said)

    def _goes_on(self, said: _Said) -> None:
        if not said.went_on:
            said.went_on = True
            seconds = said.wait.seconds(self._clock())
            warn(_LOGGER, "It goes on after %.0f s %s", seconds, self._where(said))

    def _where(self, said: _Said) -> str:
        rank = self._rank()
        return said.where + ("" if rank is None else f", rank {rank}")


class _Said:
    """What was said, and of what.

    `told` is whether there was a line of it, `went_on` whether there was one of its end.

    Args:
        wait: who does not get on.
        opened: what was open; None between two.
        awaited: the number of that step, or of the next.
    """

    def __init__(self, wait: Standstill, opened: Record | None, awaited: int) -> None:
        self.wait = wait
        self.opened = opened
        self.awaited = awaited
        self.told = False
        self.went_on = False

    @property
    def where(self) -> str:
        """In a sentence."""
        if self.opened is None:
            return f"before step {self.awaited}"
        if self.opened.kind == "step":
            return f"in step {self.awaited}"
        after = self.opened.index
        return (
            "in a forward outside any step"
            if after is None
            else f"in evaluation after step {after}"
        )

    def is_of(self, record: Record) -> bool:
        """Return whether `record` is what stalled, or came after it."""
        if self.opened is not None:
            return record is self.opened
        return record.kind == "step" and record.index == self.awaited
