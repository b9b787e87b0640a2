"""What the log says of a receiver that takes nothing: a few lines, however long that goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable

from otel_torch_modules._emission.clocks import monotonic
from otel_torch_modules._emission.otlp.reply import Reply
from otel_torch_modules._log import warn

_LOGGER = logging.getLogger(__name__)

_PATIENCE_S = 5.0  # what may be tried again is lost to nobody yet
_FIRST_INTERVAL_S = 10.0


class Trouble:
    """One line at the first failure, then at doubling intervals with a count, and one when it is over.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._begun = clock()
        self._failures = 0
        self._since = 0.0
        self._next = 0.0  # when there is something to say again
        self._interval_s = _FIRST_INTERVAL_S
        self._said = False
        self.muted = False
        self.last: Reply | None = None
        """The last answer, where that was a failure."""

    def begins(self) -> None:
        """Take note that an attempt begins: what is sent waits from now on, for an answer too."""
        self._begun = self._clock()

    def heard(self, answer: Reply) -> None:
        """Take note of `answer`, and say what there is to say."""
        if answer.error:
            self._failed(answer)
        else:
            self._is_well()

    def _failed(self, answer: Reply) -> None:
        now = self._clock()
        if self.last is None:
            self._failures = 0
            self._since = self._begun
            self._next = self._begun + (_PATIENCE_S if answer.again else 0.0)
            self._interval_s = _FIRST_INTERVAL_S
            self._said = False
        elif not answer.again and not self._said:
            self._next = now
        self.last = answer
        self._failures += 1
        if now < self._next or self.muted:
            return
        fate = "wait, as many as there is room for" if answer.again else "are lost"
        if self._said:
            warn(
                _LOGGER,
                "Spans still %s, %.0f s later; attempts that failed: %d: %s",
                fate,
                now - self._since,
                self._failures,
                answer.reason,
            )
        else:
            warn(_LOGGER, "Spans %s: %s", fate, answer.reason)
        self._said = True
        self._next = now + self._interval_s
        self._interval_s *= 2

    def _is_well(self) -> None:
        if self.last is not None and self._said and not self.muted:
            warn(
                _LOGGER,
                "Spans are sent again, %.0f s later; attempts that failed: %d",
                self._clock() - self._since,
                self._failures,
            )
        self.last = None
