"""The thread between recording and sending, from the first record to the end of the process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from otel_torch_modules._engine.deliveries import Deliveries
from otel_torch_modules._engine.process_exit import AtExit
from otel_torch_modules._engine.worker import Sender, Worker
from otel_torch_modules._interruption import is_interruption
from otel_torch_modules._records import Record

EXIT_TIMEOUT_S = 4.5
"""How long exit waits for a collector that does not answer; with what breaking off takes, less than five seconds."""

_EARLY_TIMEOUT_S = 2.0  # the same where the job says that it ends, and the process may go on

_CAPACITY = 64 << 20  # bytes of records that may wait


class Outlet(Sender, Protocol):
    """A sender that has a beginning and an end."""

    @property
    def is_ours(self) -> bool:
        """Whether it ends when we say so; known from when it begins."""

    def wait(self, timeout_s: float) -> bool:
        """Wait until what is being prepared is there; return False where it takes longer."""

    def expect_end(self) -> None:
        """Take note that the last record has been put."""

    def end(self, in_time: bool) -> None:
        """Say what was not sent; break off what is being sent, unless all was `in_time`."""


class Engine:
    """A worker, and its end at the right moment.

    Args:
        outlet: where what was handled goes.
        deliveries: counts what becomes of records.
        handle: what is done with a record.
        hand_over: puts what is finished but was not handed over yet; called often.
        look: does what else is due; called as often, when what waited has been handled.
        finish: puts what is not finished either; called once, at exit and at `stop`.
        exit_timeout_s: how long the end of the process may wait for a collector that does not answer.
    """

    def __init__(
        self,
        outlet: Outlet,
        deliveries: Deliveries,
        *,
        handle: Callable[[Record], None],
        hand_over: Callable[[], None],
        look: Callable[[], None],
        finish: Callable[[], None],
        exit_timeout_s: float = EXIT_TIMEOUT_S,
    ) -> None:
        self.worker = Worker(outlet, deliveries, handle, hand_over, look, capacity=_CAPACITY)
        self._outlet = outlet
        self._finish = finish
        self._exit_timeout_s = self._left_s = exit_timeout_s
        # At exit this is all: the program's meter provider ends after us, and reads the numbers once more.
        self._at_exit = AtExit(lambda: self.stop(self._left_s))
        self._before_exit = AtExit(self._hand_in)
        self._at_exit.register()

    def start(self) -> None:
        """Start the thread, now that the outlet is known: at exit, Python 3.12 starts none any more."""
        # Once more where it is the program's: so we end before what that has registered at exit.
        (self._before_exit if self._outlet.is_ours else self._at_exit).register()
        self.worker.start()

    def stop(self, timeout_s: float) -> bool:
        """Send what there is, end all threads; return False where that took longer and was broken off.

        Threads end whatever is raised, at once where a signal handler raises it: who presses a key waits no more.
        """
        in_time = False
        try:
            if not self._outlet.wait(timeout_s):
                timeout_s = 0.0  # once is enough to wait
            self._before_exit.unregister()
            self._at_exit.unregister()
            self._finish()
            self._outlet.expect_end()
            in_time = self.worker.stop(timeout_s)
        except BaseException as error:
            in_time = self.worker.stop(0.0 if is_interruption(error) else timeout_s)
            raise
        finally:
            self._outlet.end(in_time)
        return in_time

    def send_early(self) -> None:
        """Send what has been put: the job says that it ends, and may be killed at once."""
        self._left_s = self._exit_timeout_s - _EARLY_TIMEOUT_S
        if self._outlet.wait(_EARLY_TIMEOUT_S) and self.worker.flush(_EARLY_TIMEOUT_S):
            self._left_s = self._exit_timeout_s

    def _hand_in(self) -> None:
        """Send what there is, before what the program has registered at exit: that may train, or end the process."""
        self._finish()
        left_s, self._left_s = self._left_s, 0.0  # nobody answers, or is waited for: once is enough
        if self.worker.flush(left_s):
            self._left_s = left_s
