"""How often a model is looked at for what has changed: as often as costs less than half a percent of the time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from otel_torch_modules._recording.modules.places import NEWEST, Place, changed

_SHARE: Final = 200
_FEW_LISTS: Final = 8


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


class LooksForNew:
    """Looks, below one root, for where a new module may be that is called: in its caller, or in lists of that."""

    __slots__ = ("_of_all",)

    def __init__(self) -> None:
        self._of_all = Looks()

    def changed(self, caller: Place, clock: Callable[[], int]) -> Iterable[Place]:
        """Return where there are others now than when it was last looked, where the newest came first.

        So far as the newest modules of the newest lists say; all are looked at as often as costs little.
        """
        if not caller.lists and len(caller.ids) <= NEWEST:  # as most callers of what nothing holds
            return (caller,) if caller.end_has_changed() else ()
        return self._changed_below(caller, clock)

    def _changed_below(self, caller: Place, clock: Callable[[], int]) -> Iterator[Place]:
        places = [caller]
        found = False
        all_seen = True
        for place in places:
            if len(places) > _FEW_LISTS and place is places[_FEW_LISTS]:
                all_seen = False
                break
            if place.lists:
                places += reversed(place.lists)
            all_seen = all_seen and len(place.ids) <= NEWEST
            if place.end_has_changed():
                found = True
                yield place
        if not (found or all_seen):
            yield from self._changed_anywhere(caller, clock)

    def _changed_anywhere(self, caller: Place, clock: Callable[[], int]) -> list[Place]:
        time = clock()
        if not self._of_all.are_due(time):
            return []
        places = [caller]
        for place in places:
            places += place.lists
        found = changed(places)
        self._of_all.took(time, clock())
        return found
