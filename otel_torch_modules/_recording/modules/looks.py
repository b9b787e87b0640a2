"""How often a model is looked at for what has changed: as often as costs less than half a percent of the time."""

from __future__ import annotations

from typing import Final

_SHARE: Final = 200


class Looks:
    """The looks of one kind."""

    __slots__ = ("_began", "_took")

    def __init__(self) -> None:
        self._began = 0
        self._took = (0, 0)  # ns that the last two took; one of them may have been interrupted

    def are_due(self, time: int) -> bool:
        """Return whether it is time for another one."""
        return time - self._began >= _SHARE * min(self._took)

    def took(self, began: int, ended: int) -> None:
        """Take note of one."""
        self._began = began
        self._took = (self._took[1], ended - began)
