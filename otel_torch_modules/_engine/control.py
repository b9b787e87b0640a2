"""Lets a user see where a rank stands, and ask it for steps, by files in a folder that they share.

Once a second this rank's file is written and the user's request is looked for. A folder that cannot be read or written
is said once, and tried again; one that is slow is looked at so much less often.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic, time_ns
from typing import NamedTuple

from otel_torch_modules._control import files
from otel_torch_modules._control.report import MOST_CHARACTERS, Report, file_name
from otel_torch_modules._control.request import RunStart
from otel_torch_modules._engine.look_interval import look_interval
from otel_torch_modules._engine.pace import Pace
from otel_torch_modules._engine.request_file import RequestFile, Requests
from otel_torch_modules._interruption import is_interruption, suppressed
from otel_torch_modules._log import report, warn
from otel_torch_modules.environment_variables import OTEL_TORCH_MODULES_CONTROL

_LOGGER = logging.getLogger("otel_torch_modules")

_SILENCE_S = 5.0  # of a process that has the file: it has gone, and its number is another's
_PATIENCE_S = 1.0  # at the end, with a file system that does not answer


class Rank(NamedTuple):
    """Where this process is in its job, and whether it records anything there."""

    run: RunStart
    number: int
    records: bool


class Stand(NamedTuple):
    """Where it is in its training.

    Args:
        step: that is open, or else the next.
        begun: the last step that has begun.
        began: when, in ns.
        place: the phase or the module that is open; empty where that is not known.
        since: for how many seconds it has been in this step, or in this wait.
        recorded: how deep the last step is.
    """

    step: int
    begun: int
    began: int
    place: str
    since: float
    recorded: str


class Control:
    """All methods but `close` are called on the worker thread.

    Args:
        folder: made where it is not there.
        rank: returns which rank of which run this process is; None where it is none.
        stand: returns where it is; None before the first step.
        next_step: returns the number of the step that opens next; one that is open has a lower one.
        requests: takes them to the training thread.
        prepare: called when steps are going to be recorded.
        clock: seconds; tests hand in their own.
    """

    def __init__(
        self,
        folder: Path,
        rank: Callable[[], Rank | None],
        stand: Callable[[], Stand | None],
        next_step: Callable[[], int],
        requests: Requests,
        prepare: Callable[[], None],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._folder = folder
        self._rank = rank
        self._stand = stand
        self.asked = RequestFile(folder, next_step, requests, prepare)
        self._clock = clock
        self.forget()

    def forget(self) -> None:
        """Begin anew: a forked child is another rank, or none, and its parent's file is the parent's."""
        self._lock = threading.Lock()
        self._path: Path | None = None
        self._closed = False
        self._due = self._clock()
        self._look_s = look_interval()
        self._pace = Pace()
        self._other: object = None  # what another process's file said
        self._other_since = 0.0
        self._said: set[str] = set()
        self.asked.forget()

    def look(self) -> None:
        """Do what is due. Errors of ours end it."""
        if self._closed:
            return
        try:
            self._look()
        except BaseException as error:
            if is_interruption(error):
                raise
            self._closed = True
            self.asked.end()
            report(_LOGGER, "%s is looked at no more; training goes on", self._folder, error=error)

    def _look(self) -> None:
        stand = self._stand()
        if stand is None:
            return
        self._pace.note(stand.begun, stand.began)
        self.asked.end_what_is_through(stand.step)
        begun = self._clock()
        if begun < self._due:
            return
        with self._lock:
            rank = None if self._closed else self._rank()
            if rank is not None:
                self._speak(rank, stand)
        self._look_s = look_interval(self._clock() - begun)
        self._due = begun + self._look_s

    def _speak(self, rank: Rank, stand: Stand) -> None:
        path = self._folder / file_name(rank.number)
        try:
            files.make_folder(self._folder)  # also where it was taken away
            if path == self._path or self._takes(path):
                try:
                    self.asked.look(rank.run)
                finally:  # where the rank stands is said whatever is with the request
                    files.put(path, self._report(rank, stand).said())
        except OSError as error:
            if is_interruption(error):
                raise
            self._say_once(f"{path}: {error.strerror or error}; it is tried again")

    def _takes(self, path: Path) -> bool:
        """Return whether `path` is this process's file from now on: nobody else writes it."""
        left = {}
        with suppressed(FileNotFoundError, ValueError):
            left = files.read(path)
        if files.is_of_another_that_runs(left):
            other = left["pid"], left.get("time")
            if other != self._other:
                if self._other is not None:
                    self._say_once(
                        f"{path} is another process's that runs: each job needs a folder"
                    )
                self._other, self._other_since = other, self._clock()
            if self._clock() - self._other_since < _SILENCE_S:
                return False
        if self._path is not None:  # the rank was not known for certain
            files.remove(self._path)
        self.asked.pass_over()
        self._path = path
        return True

    def _report(self, rank: Rank, stand: Stand) -> Report:
        return Report(
            run=rank.run,
            rank=rank.number,
            records=rank.records,
            **files.this_process(),
            step=stand.step,
            seconds_per_step=self._pace.seconds_per_step,
            place=stand.place[:MOST_CHARACTERS],
            since=stand.since,
            recorded=stand.recorded,
            look=self._look_s,
            answer=self.asked.answer,
            time=time_ns(),
        )

    def close(self) -> None:
        """Remove the file: the process comes to its end by itself."""
        self._closed = True
        if self._lock.acquire(timeout=_PATIENCE_S):  # else the worker waits for the file system
            with suppressed(OSError):
                if self._path is not None:
                    files.remove(self._path)
            self._lock.release()

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            warn(_LOGGER, "%s: %s", OTEL_TORCH_MODULES_CONTROL, text)
