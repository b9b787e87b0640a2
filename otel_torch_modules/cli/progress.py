"""How far something has come that is waited for: a line that changes on a terminal, elsewhere a line for each stage."""

from __future__ import annotations

from typing import Protocol

from rich.console import Console
from rich.text import Text

from otel_torch_modules._printable import printable
from otel_torch_modules.cli.say import say

_BAR_CELLS = 30


class Progress(Protocol):
    """Is told what is waited for."""

    def say(self, line: str) -> None:
        """Print a line that stays, once."""

    def show(self, stage: str, seconds: float | None = None) -> None:
        """Show what is waited for, and for about how long that will be."""

    def count(self, done: int, total: int) -> None:
        """Show how many steps are through."""

    def end(self) -> None:
        """Show nothing any more."""


class Lines:
    """For what is no terminal: a line where a stage begins."""

    def __init__(self) -> None:
        self._stage = ""
        self._said: set[str] = set()

    def say(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            say(line)

    def show(self, stage: str, seconds: float | None = None) -> None:
        if stage != self._stage:
            self._stage = stage
            say(_stage(stage, seconds))

    def count(self, done: int, total: int) -> None:
        self.show(_through(done, total))

    def end(self) -> None:
        pass


class Line:
    """For a terminal: one line that changes.

    Args:
        console: on it.
    """

    def __init__(self, console: Console) -> None:
        self._status = console.status("")
        self._said: set[str] = set()

    def say(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            self._status.console.print(printable(line), markup=False)

    def show(self, stage: str, seconds: float | None = None) -> None:
        self._status.update(Text(printable(_stage(stage, seconds))))
        self._status.start()

    def count(self, done: int, total: int) -> None:
        cells = _BAR_CELLS * done // total
        self.show(f"{'━' * cells}{'─' * (_BAR_CELLS - cells)} {_through(done, total)}")

    def end(self) -> None:
        self._status.stop()


def progress(console: Console) -> Progress:
    """Return what suits `console`."""
    return Line(console) if console.is_terminal else Lines()


def _stage(stage: str, seconds: float | None) -> str:
    return stage if seconds is None else f"{stage} in about {seconds:.0f} s"


def _through(done: int, total: int) -> str:
    return f"{done} of {total} steps are through"
