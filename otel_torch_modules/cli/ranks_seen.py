"""What the ranks of a job say of themselves in the folder that they share with their user.

The clocks of hosts differ. So whether a rank lives is told by its file becoming another one, by this process's clock;
only how long a file has been the same when it is first seen is told by the file system's times.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from otel_torch_modules._control import files
from otel_torch_modules._control.report import Report
from otel_torch_modules._control.request import RunStart

_SILENT_AFTER_S = 5.0
_MOST_RANKS = 1 << 20


class SeenRanks(NamedTuple):
    """The ranks of one start of a run.

    Args:
        run: the one that was heard of last.
        reports: by rank, what each has said last.
        silent: by rank, for how many seconds it has given no sign, of those that should have.
        fresh: those that have given one while they were looked at.
        earlier: how many files there are of other starts and runs.
        unreadable: files that are none.
    """

    run: RunStart | None
    reports: dict[int, Report]
    silent: dict[int, float]
    fresh: set[int]
    earlier: int
    unreadable: list[str]

    @property
    def missing(self) -> list[int]:
        """The ranks of the run that have no file."""
        world = 0 if self.run is None else min(self.run.world_size, _MOST_RANKS)
        return [rank for rank in range(world) if rank not in self.reports]


class _File:
    """What is known of one file.

    Args:
        report: what it says.
        changed: when that became another, by this process's clock.
        fresh: that was seen.
    """

    def __init__(self, report: Report, changed: float, *, fresh: bool) -> None:
        self.report = report
        self.changed = changed
        self.fresh = fresh


class RanksFolder:
    """A folder that ranks write to.

    Args:
        path: of it.
        clock: seconds.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._clock = clock
        self._files: dict[str, _File] = {}

    def look(self) -> SeenRanks:
        """Read all files.

        Raises:
            OSError: the folder cannot be read.
        """
        now = self._clock()
        unreadable = []
        names = {entry.name for entry in self.path.iterdir() if _is_of_rank(entry.name)}
        for name in names:
            try:
                self._read(name, now)
            except FileNotFoundError:
                self._files.pop(name, None)
            except (OSError, ValueError) as error:
                self._files.pop(name, None)
                unreadable.append(f"{self.path / name}: {error}")
        self._files = {name: file for name, file in self._files.items() if name in names}
        return self._ranks(now, sorted(unreadable))

    def _read(self, name: str, now: float) -> None:
        report = Report.of(files.read(self.path / name))
        known = self._files.get(name)
        if known is None:
            age = max(time.time() - (self.path / name).stat().st_mtime, 0.0)
            self._files[name] = _File(report, now - age, fresh=False)
        elif known.report != report:
            self._files[name] = _File(report, now, fresh=True)

    def _ranks(self, now: float, unreadable: list[str]) -> SeenRanks:
        found = list(self._files.values())
        if not found:
            return SeenRanks(None, {}, {}, set(), 0, unreadable)
        run = max(found, key=lambda file: file.changed).report.run
        of_run = [file for file in found if file.report.run == run]
        of_run.sort(key=lambda file: file.report.rank)
        return SeenRanks(
            run,
            {file.report.rank: file.report for file in of_run},
            {
                file.report.rank: now - file.changed
                for file in of_run
                if now - file.changed > _SILENT_AFTER_S + 2 * file.report.look
            },
            {file.report.rank for file in of_run if file.fresh},
            len(found) - len(of_run),
            unreadable,
        )


def _is_of_rank(name: str) -> bool:
    return name.startswith("rank-") and name.endswith(".json")
