"""Who is told how far the reading of sources is."""

from __future__ import annotations

from typing import Protocol


class ReadingProgress(Protocol):
    """Is told of one source after the other."""

    def begin(self, name: str, size: int | None) -> None:
        """A source is read that has `size` bytes; None of a pipe and of a backend, whose end nobody knows."""

    def advance(self, count: int) -> None:
        """So many bytes more have been read."""

    def end(self) -> None:
        """It is read."""


class Unseen:
    """Nobody looks."""

    def begin(self, name: str, size: int | None) -> None:
        pass

    def advance(self, count: int) -> None:
        pass

    def end(self) -> None:
        pass
