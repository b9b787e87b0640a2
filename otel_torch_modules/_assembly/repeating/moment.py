"""Times and values that know which slots of a log they come from."""

from __future__ import annotations

from typing import Any, NamedTuple


class Placed(NamedTuple):
    """A value of an event, which assembly only hands on."""

    value: Any
    slot: int  # of the detail that has it
    at: int  # there


class Moment(int):
    """An integer like any other time, and a sum and difference of slots of a log.

    Assembly that is given these instead of plain integers says by its results where each of them came from.

    Args:
        value: the time.
        added: the slots whose sum it is.
        taken: the slots that were subtracted.

    Example:
        >>> moment = Moment(30, (8,)) - Moment(10, (3,))
        >>> moment, moment.added, moment.taken
        (20, (8,), (3,))
    """

    added: tuple[int, ...]
    taken: tuple[int, ...]

    def __new__(cls, value: int, added: tuple[int, ...], taken: tuple[int, ...] = ()) -> Moment:
        moment = super().__new__(cls, value)
        moment.added = added
        moment.taken = taken
        return moment

    def __add__(self, other: Moment) -> Moment:  # type: ignore[override]
        return Moment(int(self) + int(other), self.added + other.added, self.taken + other.taken)

    def __sub__(self, other: Moment) -> Moment:  # type: ignore[override]
        return Moment(int(self) - int(other), self.added + other.taken, self.taken + other.added)

    def __neg__(self) -> Moment:
        return Moment(-int(self), self.taken, self.added)
