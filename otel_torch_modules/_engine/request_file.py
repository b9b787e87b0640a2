"""What a user asks of a running job, in a file, and what becomes of it.

The training thread is told of a request by an attribute, and knows nothing of files.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from otel_torch_modules._control import files
from otel_torch_modules._control.report import (
    ACCEPTED,
    DONE,
    MOST_CHARACTERS,
    MOST_TRACES,
    REFUSED,
    Answer,
)
from otel_torch_modules._control.request import FILE, Request, RunStart
from otel_torch_modules._interruption import is_interruption
from otel_torch_modules._log import inform, warn
from otel_torch_modules._records import Record

_LOGGER = logging.getLogger("otel_torch_modules")


class Requests(Protocol):
    """What the training thread is told."""

    request: Request | None
    """Steps that were asked for."""

    def end(self) -> None:
        """Record again what is recorded by itself."""

    def forget(self) -> None:
        """Begin anew: in a forked child nobody looks yet."""


class RequestFile:
    """Looks at the user's request, and answers it.

    Args:
        folder: where it is.
        next_step: returns the number of the step that opens next; one that is open has a lower one.
        requests: takes them to the training thread.
        prepare: called when steps are going to be recorded.
    """

    def __init__(
        self,
        folder: Path,
        next_step: Callable[[], int],
        requests: Requests,
        prepare: Callable[[], None],
    ) -> None:
        self._folder = folder
        self._next_step = next_step
        self._requests = requests
        self._prepare = prepare
        self.forget()

    def forget(self) -> None:
        """Begin anew, in a forked child."""
        self._seen: object = None  # what the file is told by
        self._followed: Request | None = None  # the last
        self.answer: Answer | None = None
        """To the last request, followed or not."""
        self._requests.forget()

    def pass_over(self) -> None:
        """Take what is asked for now for none of this process's."""
        self._seen = self._told_by()

    def end(self) -> None:
        """Follow nothing any more."""
        self._requests.end()

    def look(self, run: RunStart) -> None:
        """Follow what is asked for since, or say why not; `run` is this process's."""
        seen = self._told_by()
        if seen == self._seen:
            return
        before, self._seen = self._seen, seen
        followed = self._requests.request
        if seen is None:
            if followed is not None and self._next_step() <= followed.first:
                self._requests.end()
                self._followed = self.answer = None
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
        except OSError:  # it is for the next look
            self._seen = before
            raise
        if followed is not None and self._next_step() > followed.first:
            self._refuse(request.id, f"{followed.steps} are being recorded")
            return
        self._requests.end()
        self._follow(request, run)

    def _told_by(self) -> object:
        try:
            found = (self._folder / FILE).stat()
        except FileNotFoundError as error:
            if is_interruption(error):
                raise
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _follow(self, request: Request, run: RunStart) -> None:
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
        self.answer = Answer(request.id, ACCEPTED)
        inform(_LOGGER, "%s were asked for by %s", request.steps, request.asked_by)

    def _refuse(self, id: object, why: str) -> None:
        self.answer = Answer(id if isinstance(id, str) else "", REFUSED, why[:500])
        warn(_LOGGER, "The request in %s is not followed: %s", self._folder, why)

    def end_what_is_through(self, step: int) -> None:
        """Take note of the step that is open, or else the next."""
        request = self._requests.request
        if request is not None and step > request.last:
            self._requests.end()
            if self.answer is not None and self.answer.id == request.id:
                self.answer = self.answer._replace(said=DONE)

    def tell(self, record: Record, file: str) -> None:
        """Take note of a step that was asked for, which goes to the exporter.

        Args:
            record: of the step.
            file: that it is written to; empty where it goes elsewhere.
        """
        followed, answer = self._followed, self.answer
        step = record.index
        if followed is None or answer is None or answer.id != followed.id:
            return
        if step is not None and followed.first <= step <= followed.last:
            traces = (*answer.traces, (step, f"{record.trace_id:032x}"))[:MOST_TRACES]
            self.answer = answer._replace(
                recorded=answer.recorded + 1, traces=traces, file=file[:MOST_CHARACTERS]
            )
