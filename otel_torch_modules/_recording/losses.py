"""What an error of ours costs: the record that it struck, and no more."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from otel_torch_modules._greenlets import GreenThreadsError
from otel_torch_modules._interruption import is_interruption
from otel_torch_modules._log import report
from otel_torch_modules._texts import error_type

logger = logging.getLogger("otel_torch_modules")

_LOST: Final = "A record is lost to an error of otel-torch-modules %s; tracing goes on"

_MOST_IN_A_ROW: Final = 5
"""After so many records lost, and none whole between them, it is not a record that is odd."""


class Losses:
    """Says and counts the records that errors of ours have cost.

    Args:
        count: told the type of the error for each record.
        give_up: takes the hooks off, when nothing but errors comes of them.
    """

    def __init__(self, count: Callable[[str], None], give_up: Callable[[], None]) -> None:
        self._count = count
        self._give_up = give_up
        self.in_a_row = 0
        """Records that were lost since one was whole."""
        self._said: set[tuple[str, str, str]] = set()
        self.given_up = False
        """The hooks were taken off."""

    def add(self, error: BaseException, where: str) -> None:
        """Take note that `error`, which came up at the place that `where` names, has cost a record."""
        if self.given_up:
            return
        if isinstance(error, GreenThreadsError):  # it is no record that is odd
            self.given_up = True
            report(logger, "Tracing stops: %s; training goes on", error)
            self._give_up()
            return
        self._count(error_type(error))
        if is_interruption(error):  # the program's: it hears of it
            return
        self.in_a_row += 1
        gives_up = self.in_a_row >= _MOST_IN_A_ROW
        self.given_up |= gives_up  # another thread may have
        with ExitStack() as each:  # whatever another raises, the last of them first
            if gives_up:
                each.callback(self._say_that_it_stops)
                each.callback(self._give_up)
            each.callback(self.say, error, _LOST, where)

    def _say_that_it_stops(self) -> None:
        report(
            logger,
            "Tracing stops: %d records in a row were lost to errors of otel-torch-modules; training goes on",
            _MOST_IN_A_ROW,
        )

    def say(self, error: BaseException, message: str, where: str = "") -> None:
        """Log `error`, one of ours, with its traceback, unless it has been."""
        kind = type(error).__qualname__, message, where
        if kind not in self._said:
            self._said.add(kind)
            report(logger, message, *filter(None, [where]), error=error)

    def end_with_a_whole_record(self) -> None:
        """Take note that a record is whole."""
        if not self.given_up:
            self.in_a_row = 0
