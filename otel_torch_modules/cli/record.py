"""`otel-torch-modules record`: asks a job that runs for steps, and waits until they are through.

A request is written whole, with a first step that lies so far ahead that all ranks will have read it. Should one of
them not have, or not follow it, it is taken back before any has begun: all ranks record the same steps, or none.
"""

from __future__ import annotations

import getpass
import os
import secrets
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from otel_torch_modules._control import files
from otel_torch_modules._control.report import Report
from otel_torch_modules._control.request import FILE, Request
from otel_torch_modules._grammar import counted
from otel_torch_modules.cli.asking import (
    Outlook,
    awaited,
    description,
    first_step,
    outlook,
    traces,
    what_hinders,
    what_is_not_there,
)
from otel_torch_modules.cli.command_error import CommandError
from otel_torch_modules.cli.progress import Progress
from otel_torch_modules.cli.ranks_seen import RanksFolder, SeenRanks
from otel_torch_modules.cli.say import say
from otel_torch_modules.cli.stall import ranks as named
from otel_torch_modules.cli.typed import typed_all

_LOOK_S = 0.25
_FIRST_SIGN_S = 5.0  # so long a rank is waited for that has given none yet
_EXPORT_S = 3.0  # what a rank has recorded is sent by then
_MOST_FILES = 4
_MOST_TRACES = 8


class Wanted(NamedTuple):
    """What is asked for."""

    steps: int
    modules: str
    shapes: bool
    ranks: str


def record(folder: Path, wanted: Wanted, progress: Progress) -> None:
    """Ask the job that shares `folder` for steps, wait for them, and say where they are.

    Raises:
        CommandError: they cannot be had; then nothing is recorded, or it is said what is.
    """
    ranks_folder = RanksFolder(folder)
    try:
        request = _request(_meet(ranks_folder, progress), wanted)
        _ask(folder / FILE, request, ranks_folder)
        try:
            reports = _Asked(ranks_folder, request, progress).wait()
        finally:
            _remove(folder / FILE, request)
    except OSError as error:
        raise CommandError(f"{folder}: {error.strerror or error}") from error
    finally:
        progress.end()
    _tell(request, reports)


def _meet(folder: RanksFolder, progress: Progress) -> SeenRanks:
    """Return the ranks when each has given a sign and its pace is known."""
    since = time.monotonic()
    while True:
        ranks = folder.look()
        for line in ranks.unreadable:
            progress.say(f"{line}: left out")
        waits = awaited(ranks)
        hindered = what_hinders(ranks)
        if not waits and not hindered:
            if ranks.earlier:
                there = counted(ranks.earlier, "file")
                progress.say(f"{there} of other starts or runs: left out")
            return ranks
        if hindered and time.monotonic() - since > _FIRST_SIGN_S:
            raise CommandError(f"{folder.path}: {hindered}")
        progress.show(
            f"Waiting for a sign of {named(waits)}, and their pace"
            if waits
            else "Looking for ranks"
        )
        time.sleep(_LOOK_S)


def _request(ranks: SeenRanks, wanted: Wanted) -> Request:
    assert ranks.run is not None
    missing = what_is_not_there(wanted.ranks, ranks.run)
    if missing:
        raise CommandError(missing)
    first = first_step(ranks.reports)
    return Request(
        id=secrets.token_hex(8),
        run=ranks.run,
        first=first,
        last=first + wanted.steps - 1,
        modules=wanted.modules,
        shapes=wanted.shapes,
        ranks=wanted.ranks,
        asked_by=f"{_user()}, process {os.getpid()} on {socket.gethostname()}",
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"user {os.getuid()}"


def _ask(path: Path, request: Request, folder: RanksFolder) -> None:
    """Write the request, unless there is another one that is not over."""
    try:
        files.put_new(path, request.said())
        return
    except FileExistsError:
        pass
    try:
        other = Request.of(files.read(path))
    except FileNotFoundError:  # gone by now
        other = request
    except ValueError as error:
        raise CommandError(f"{path} is no request ({error}): remove it") from None
    reports = folder.look().reports.values()
    if other.run == request.run and any(report.step <= other.last for report in reports):
        raise CommandError(
            f"{other.steps} are asked for already, by {other.asked_by}: wait until they are through, or remove {path}"
        )
    path.unlink(missing_ok=True)
    try:
        files.put_new(path, request.said())
    except FileExistsError:
        raise CommandError(f"{path}: another request has just been made") from None


def _is_ours(path: Path, request: Request) -> bool:
    try:
        return files.read(path).get("id") == request.id
    except (FileNotFoundError, ValueError):
        return False


def _remove(path: Path, request: Request) -> None:
    if _is_ours(path, request):
        path.unlink(missing_ok=True)


class _Asked:
    """A request that is there.

    Args:
        folder: where the ranks answer.
        request: which.
        progress: is told.
    """

    def __init__(self, folder: RanksFolder, request: Request, progress: Progress) -> None:
        self._folder = folder
        self._request = request
        self._progress = progress
        self._reports = dict(folder.look().reports)  # a rank that has ended has no file

    def wait(self) -> Mapping[int, Report]:
        """Return what the ranks say when all is through."""
        request = self._request
        self._progress.say(f"Asked for {description(request)}.")
        done_since = None
        while True:
            ranks = self._folder.look()
            self._reports |= ranks.reports
            seen = outlook(request, self._reports)
            try:
                self._look_for_faults(ranks, seen)
                if seen.done:
                    done_since = done_since or time.monotonic()
                    if seen.complete or time.monotonic() - done_since > _EXPORT_S:
                        return self._reports
                self._show(seen)
                time.sleep(_LOOK_S)
            except KeyboardInterrupt:
                self._progress.say(_withdrawal(seen))
                raise

    def _look_for_faults(self, ranks: SeenRanks, seen: Outlook) -> None:
        request = self._request
        if seen.fault:
            raise CommandError(f"{seen.fault}. {_withdrawal(seen)}")
        if ranks.run not in (None, request.run):
            raise CommandError(f"the job has begun anew: it is {ranks.run} now")
        if seen.done:
            return
        gone = sorted(set(self._reports) - set(ranks.reports))
        if gone and ranks.reports:
            gone = [rank for rank in gone if self._reports[rank].step <= request.last]
        if gone:
            raise CommandError(
                f"{named(gone)} ended before {request.steps} were through, at step "
                f"{max(self._reports[rank].step for rank in gone)}"
            )
        if not _is_ours(self._folder.path / FILE, request):
            raise CommandError(f"{self._folder.path / FILE} was taken away by somebody else")
        if ranks.silent:
            longest = max(ranks.silent.values())
            self._progress.show(f"No sign of {named(sorted(ranks.silent))} for {longest:.0f} s")

    def _show(self, seen: Outlook) -> None:
        steps = self._request.last - self._request.first + 1
        if seen.unanswered:
            total = len(self._reports)
            self._progress.show(f"{total - len(seen.unanswered)} of {total} ranks have read it")
        elif seen.left > 0:
            self._progress.show(
                f"All ranks have read it; step {self._request.first} comes", seen.left
            )
        else:
            self._progress.count(seen.through, steps)


def _withdrawal(seen: Outlook) -> str:
    if seen.left > 0:
        return "The request is withdrawn; nothing is recorded."
    return "Its first step has begun: ranks that follow it record it to its end."


def _tell(request: Request, reports: Mapping[int, Report]) -> None:
    recorded = [rank for rank, one in reports.items() if one.answer and one.answer.recorded]
    if not recorded:
        raise CommandError(
            f"{request.steps} are through, and no rank has recorded any of them: a sampler or OTEL_TORCH_MODULES_RANKS "
            "may leave them out"
        )
    without = sorted(set(reports) - set(recorded))
    say(f"{request.steps.capitalize()} are recorded on {named(sorted(recorded))}.")
    if without:
        say(f"Nothing of them on {named(without)}.")
    found = traces(reports)
    for step, ids in list(found.items())[:_MOST_TRACES]:
        if len(set(ids.values())) == 1:
            say(f"  step {step}  trace {next(iter(ids.values()))}")
        else:
            each = [
                f"rank {rank} {trace_id}" for rank, trace_id in list(ids.items())[:_MOST_TRACES]
            ]
            say(
                f"  step {step}  traces: {', '.join(each)}"
                + (", …" if len(ids) > len(each) else "")
            )
    if request.last - request.first + 1 > len(list(found)[:_MOST_TRACES]):
        say("  …")
    written = sorted({one.answer.file for one in reports.values() if one.answer} - {""})
    shown = typed_all(written[:_MOST_FILES]) or "FILE"
    more = " …" if len(written) > _MOST_FILES else ""
    say(f"Look at one: otel-torch-modules view {shown}{more} --step {request.first}")
    say(f"Jaeger: tag torch.step={request.first}, or torch.step.kept=requested for all")
