"""How often a model is looked at for what has changed: as often as costs little of the time.

That is half a percent for what came, went or moved, and a fiftieth of that for what is another one where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final

from otel_torch_modules._recording.modules.places import NEWEST, Place, changed, kinds
from otel_torch_modules._site import Site

_SHARE: Final = 200
_SMALL_SHARE: Final = 10_000
_FEW_LISTS: Final = 8
_FEW_MODULES: Final = 16


class Looks:
    """The looks of one kind.

    Args:
        share: of so much time they take a part.
    """

    __slots__ = ("_share", "_took", "due")

    def __init__(self, share: int = _SHARE) -> None:
        self._share = share
        self.due = 0
        """When it is time for another one."""
        self._took = (0, 0)  # ns that the last two took; one of them may have been interrupted

    def took(self, began: int, ended: int) -> None:
        """Take note of one."""
        self._took = (self._took[1], ended - began)
        self.due = began + self._share * min(self._took)


class LooksForTurned(Looks):
    """Looks, at a few modules below one root after the other, for what has become another one where it is.

    Its class was changed, as a parametrization does, or its parameters are others: its weight is normalised.
    """

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        super().__init__(_SMALL_SHARE)
        self._rest: Iterator[Site] = iter(())

    def walked(self, began: int, ended: int) -> None:
        """Take note of a walk through all, which what is found leads to: it counts as a look of the other kind."""
        self.due = max(self.due, ended + _SHARE * (ended - began))

    def find_any(self, sites: dict[int, Site], clock: Callable[[], int]) -> bool:
        """Return whether there is one among the next few of `sites`."""
        time = clock()
        few = [*islice(self._rest, _FEW_MODULES)]
        if not few:
            self._rest = iter([*sites.values()])
            few = [*islice(self._rest, _FEW_MODULES)]
        modules, known = [], []
        for site in few:
            entry = site.place.module
            module = None if entry is None else entry()
            if module is not None:
                modules.append(module)
                known.append(site.place.kind)
        found = kinds(modules) != known
        self.took(time, clock())
        return found


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
        if time < self._of_all.due:
            return []
        places = [caller]
        for place in places:
            places += place.lists
        found = changed(places)
        self._of_all.took(time, clock())
        return found
