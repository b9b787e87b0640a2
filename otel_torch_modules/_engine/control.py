"""Lets a user see where a rank stands, and ask it for steps, by files in a folder that they share.

Once a second this rank's file is written and the user's request is looked for. A folder that cannot be read or written
is said once, and tried again; one that is slow is looked at so much less often. The training thread is told of a
request by an attribute, and knows nothing of files.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from otel_torch_modules._control import files
from otel_torch_modules._control.report import (
    ACCEPTED,
    DONE,
    MOST_TRACES,
    REFUSED,
    Answer,
    Report,
    file_name,
)
from otel_torch_modules._control.request import FILE, Request, Run
from otel_torch_modules._engine.pace import Pace
from otel_torch_modules._interruption import is_interruption, suppressed
from otel_torch_modules._log import inform, report, warn
from otel_torch_modules._records import Record

_LOGGER = logging.getLogger("otel_torch_modules")

_INTERVAL_S = 1.0
_MOST_OF_THE_TIME = 0.05  # that the worker spends with the folder
_MOST_CHARACTERS = 200
_SILENCE_S = 5.0  # of a process that has the file: it has gone, and its number is another's
_PATIENCE_S = 1.0  # at the end, with a file system that does not answer


class Rank(NamedTuple):
    """Where this process is in its job, and whether it records anything there."""

    run: Run
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


class Requests(Protocol):
    """What the training thread is told."""

    request: Request | None
    """Steps that were asked for."""

    def end(self) -> None:
        """Record again what is recorded by itself."""

    def forget(self) -> None:
        """Begin anew: in a forked child nobody looks yet."""


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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._rank = rank
        self._stand = stand
        self._next_step = next_step
        self._requests = requests
        self._prepare = prepare
        self._clock = clock
        self.forget()

    def forget(self) -> None:
        """Begin anew: a forked child is another rank, or none, and its parent's file is the parent's."""
        self._lock = threading.Lock()
        self._path: Path | None = None
        self._closed = False
        self._due = self._clock()
        self._look_s = _INTERVAL_S
        self._pace = Pace()
        self._seen: object = None  # what a request's file is told by
        self._followed: Request | None = None  # the last
        self._answer: Answer | None = None  # to the last, followed or not
        self._other: object = None  # what another process's file said
        self._other_since = 0.0
        self._said: set[str] = set()
        self._requests.forget()

    def look(self) -> None:
        """Do what is due. Errors of ours end it."""
        if self._closed:
            return
        try:
            self._look()
        except Exception as error:
            if is_interruption(error):
                raise
            self._closed = True
            self._requests.end()
            report(_LOGGER, "%s is looked at no more; training goes on", self._folder, error=error)

    def _look(self) -> None:
        stand = self._stand()
        if stand is None:
            return
        self._pace.note(stand.begun, stand.began)
        self._end_what_is_through(stand)
        begun = self._clock()
        if begun < self._due:
            return
        with self._lock:
            rank = None if self._closed else self._rank()
            if rank is not None:
                self._speak(rank, stand)
        taken = self._clock() - begun
        self._look_s = max(_INTERVAL_S, taken / _MOST_OF_THE_TIME)
        self._due = begun + self._look_s

    def _speak(self, rank: Rank, stand: Stand) -> None:
        path = self._folder / file_name(rank.number)
        try:
            if path == self._path or self._takes(path):
                self._look_for_request(rank.run)
                files.put(path, self._report(rank, stand).said())
        except OSError as error:
            if is_interruption(error):
                raise
            self._say_once(f"{path}: {error.strerror or error}; it is tried again")

    def _takes(self, path: Path) -> bool:
        """Return whether `path` is this process's file from now on: nobody else writes it."""
        files.make_folder(self._folder)
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
        self._seen = self._told_by()  # a request that is there now was none to this process
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
            place=stand.place[:_MOST_CHARACTERS],
            since=stand.since,
            recorded=stand.recorded,
            look=self._look_s,
            answer=self._answer,
            time=time.time_ns(),
        )

    # A request.

    def _told_by(self) -> object:
        try:
            found = (self._folder / FILE).stat()
        except FileNotFoundError as error:
            if is_interruption(error):
                raise
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _look_for_request(self, run: Run) -> None:
        seen = self._told_by()
        if seen == self._seen:
            return
        self._seen = seen
        followed = self._requests.request
        if seen is None:
            if followed is not None and self._next_step() <= followed.first:
                self._requests.end()
                self._followed = self._answer = None
                inform(_LOGGER, "%s was asked for no longer", followed.steps)
            return
        content = {}
        try:
            content = files.read(self._folder / FILE)
            request = Request.of(content)
        except ValueError as error:
            if is_interruption(error):
                raise
            self._refuse(content.get("id"), f"malformed: {error}")
            return
        if followed is not None and self._next_step() > followed.first:
            self._refuse(request.id, f"{followed.steps} are being recorded")
            return
        self._requests.end()
        self._follow(request, run)

    def _follow(self, request: Request, run: Run) -> None:
        if request.run != run:
            self._refuse(request.id, f"it is for {request.run}; this is {run}")
            return
        # In this order: a step that opens after this sees the request.
        self._requests.request = request
        begun = self._next_step() - 1
        if begun >= request.first:
            self._requests.end()
            self._refuse(
                request.id, f"too late: step {begun} has begun, and it begins with {request.first}"
            )
            return
        self._prepare()
        self._followed = request
        self._answer = Answer(request.id, ACCEPTED)
        inform(_LOGGER, "%s were asked for by %s", request.steps, request.asked_by)

    def _refuse(self, id: object, why: str) -> None:
        self._answer = Answer(id if isinstance(id, str) else "", REFUSED, why[:500])
        warn(_LOGGER, "The request in %s is not followed: %s", self._folder, why)

    def _end_what_is_through(self, stand: Stand) -> None:
        request = self._requests.request
        if request is not None and stand.step > request.last:
            self._requests.end()
            if self._answer is not None and self._answer.id == request.id:
                self._answer = self._answer._replace(said=DONE)

    def tell(self, record: Record, file: str) -> None:
        """Take note of a step that was asked for, which goes to the exporter.

        Args:
            record: of the step.
            file: that it is written to; empty where it goes elsewhere.
        """
        followed, answer = self._followed, self._answer
        step = record.index
        if followed is None or answer is None or answer.id != followed.id:
            return
        if step is not None and followed.first <= step <= followed.last:
            traces = (*answer.traces, (step, f"{record.trace_id:032x}"))[:MOST_TRACES]
            self._answer = answer._replace(
                recorded=answer.recorded + 1, traces=traces, file=file[:_MOST_CHARACTERS]
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
            warn(_LOGGER, "%s", text)
