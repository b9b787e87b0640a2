"""A comparison in a process of its own, which stands still while others have their turn.

The processes are forks of this one, which has torch and the parts imported and runs nothing: to begin takes no time of
the measurement. They are not `multiprocessing`'s, for a child of that is a worker to the package, and no rank.
"""

from __future__ import annotations

import math
import os
import signal
import traceback
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from multiprocessing import Pipe
from multiprocessing.connection import Connection

from benchmarks.collector import ProgramMissingError
from benchmarks.enough import Enough, Vague
from benchmarks.figures import LeftOut, Row
from benchmarks.machine import old_objects_set_aside, use_one_thread
from benchmarks.part import Comparison

_NO_MORE = 0.0  # seconds
_NO_TIME_LEFT = "there was no time left for it"
_ENDS_WITHIN_S = 5.0  # once it was interrupted


class Apart:
    """A comparison of which a process is made when it has its first turn.

    Args:
        name: what it is called where it finds nothing.
        comparison: what is measured.
        enough: when it has been measured enough, but for how long.
    """

    def __init__(self, name: str, comparison: Comparison, enough: Enough) -> None:
        self.name = name
        self.vague = Vague(math.inf, math.inf)
        """How vague its rows are."""
        self.rows: Sequence[Row | LeftOut] | None = None
        """What it found, when it is over."""
        self._comparison = comparison
        self._enough = enough
        self._process: int | None = None
        self._connection: Connection

    @property
    def is_over(self) -> bool:
        """Whether it has said what it found."""
        return self.rows is not None

    def begin(self, seconds: float, at_most: float) -> None:
        """Have it measure for so long, or until its rows are known.

        Args:
            seconds: beside what it does before its first round.
            at_most: seconds for both; where that is too little nothing is known of it.
        """
        self._connection, its_end = Pipe()
        self._process = os.fork()
        if self._process == 0:
            os._exit(self._measure(seconds, its_end))
        its_end.close()
        if self._connection.poll(at_most):
            self._listen()
            return
        # It ends the programs that it has started. One interrupt is lost where it strikes in a destructor.
        os.kill(self._process, signal.SIGINT)
        while not self._connection.poll(_ENDS_WITHIN_S):
            os.kill(self._process, signal.SIGINT)
        os.waitpid(self._process, 0)
        self.rows = [LeftOut(self.name, _NO_TIME_LEFT)]

    def go_on(self, seconds: float) -> None:
        """Have it measure for so long again."""
        self._connection.send(seconds)
        self._listen()

    def end(self) -> None:
        """Have it say what it has found so far."""
        if self._process is None:
            self.rows = [LeftOut(self.name, _NO_TIME_LEFT)]
        else:
            self.go_on(_NO_MORE)

    def _listen(self) -> None:
        assert self._process is not None
        try:
            said = self._connection.recv()
        except EOFError:
            said = [LeftOut(self.name, "its process has ended with an error", failed=True)]
        if isinstance(said, Vague):
            self.vague = said
        else:
            self.rows = said
            os.waitpid(self._process, 0)

    def _measure(self, seconds: float, connection: Connection) -> int:
        """Measure in this process, and say to the other one what was found, or how vague it is: then ask for time."""

        def more(vague: Vague) -> float:
            connection.send(vague)
            answer: float = connection.recv()
            return answer

        rows: Sequence[Row | LeftOut]
        try:
            use_one_thread()
            with old_objects_set_aside():
                rows = self._comparison(replace(self._enough, seconds=seconds, more=more))
        except ProgramMissingError as missing:
            rows = [LeftOut(self.name, str(missing))]
        except KeyboardInterrupt:
            return 1
        except BaseException:  # the process ends here, whatever it is
            traceback.print_exc()
            return 1
        connection.send(rows)
        return 0


def comparisons(part: str) -> dict[str, Comparison]:
    """Return those of a part of the table, each with its name."""
    found: Sequence[Comparison] = import_module(f"benchmarks.{part}").COMPARISONS
    return {
        f"{part}: {comparison.__name__.replace('_', ' ').strip()}": comparison
        for comparison in found
    }
