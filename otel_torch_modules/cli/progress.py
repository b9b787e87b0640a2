"""How far something has come that is waited for: a line that changes on a terminal, elsewhere a line for each stage."""

from __future__ import annotations

from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from otel_torch_modules._printable import printable
from otel_torch_modules.cli.say import say


class Progress(Protocol):
    """Is told what is waited for."""

    def say(self, line: str) -> None:
        """Print a line that stays."""

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
            say(stage + ("" if seconds is None else f" in about {seconds:.0f} s"))

    def count(self, done: int, total: int) -> None:
        self.show(f"{done} of {total} steps are through")

    def end(self) -> None:
        pass


class Line:
    """For a terminal: one line that changes.

    Args:
        console: on it.
    """

    def __init__(self, console: Console) -> None:
        self._bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task("", total=None, visible=False)
        self._said: set[str] = set()
        self._bar.start()

    def say(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            self._bar.console.print(printable(line), markup=False)

    def show(self, stage: str, seconds: float | None = None) -> None:
        about = "" if seconds is None else f" in about {seconds:.0f} s"
        self._bar.update(
            self._task, description=printable(stage + about), total=None, completed=0, visible=True
        )

    def count(self, done: int, total: int) -> None:
        self._bar.update(
            self._task, description="Recording", completed=done, total=total, visible=True
        )

    def end(self) -> None:
        self._bar.stop()


def progress(console: Console) -> Progress:
    """Return what suits `console`."""
    return Line(console) if console.is_terminal else Lines()
