"""Where the modules of a model are, and what each of them held when it was last looked at."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from itertools import islice
from typing import Any, Final

from torch import nn

from otel_torch_modules._recording.modules.module_tree import registry
from otel_torch_modules._site import Site
from otel_torch_modules._weak_table import WeakTable

NEWEST: Final = 16
"""Modules of one that are looked at for new ones, however many it holds."""

# A leaf's; garbage collections take longer with each list and dictionary.
_NO_NAMES: Final[list[str]] = []
_NO_IDS: Final[list[int]] = []
_NO_SITES: Final[dict[str, Site]] = {}
_NO_LISTS: Final[list[Place]] = []


class Place:
    """What a site's modules are known by: kept on the site, so that it goes with it."""

    __slots__ = ("below", "ids", "kind", "lists", "module", "names", "strays")

    def __init__(self) -> None:
        self.module: Entry | None = None  # the one that came here last
        self.kind = 0  # of that one, when it was last looked at
        self.strays: WeakTable[type, Site] | None = None  # called from here
        self.empty()

    def empty(self) -> None:
        """Take it for a leaf's."""
        # Its children when they were last looked at, and the sites of those that have this way first.
        self.names = _NO_NAMES
        self.ids = _NO_IDS
        self.below = _NO_SITES
        self.lists = _NO_LISTS  # those of them that are lists, as `ModuleList` is

    def fill(self, held: dict[str, nn.Module | None]) -> None:
        """Take note of what is registered, of which no child has a site yet."""
        self.names, self.ids = [*held], [*map(id, held.values())]
        self.below, self.lists = {}, []

    def module_here(self) -> nn.Module | None:
        """Return the module that came here last, if it lives."""
        return None if self.module is None else self.module()

    def end_has_changed(self) -> bool:
        """Return whether children came or went, so far as the number and the newest say."""
        module = None if self.module is None else self.module()
        if module is None:
            return False
        held, ids = registry(module), self.ids
        if len(held) != len(ids):
            return True
        if len(ids) <= NEWEST:
            return [*map(id, held.values())] != ids
        return [*map(id, islice(reversed(held.values()), NEWEST))] != ids[: -NEWEST - 1 : -1]

    def take_in(
        self, held: dict[str, nn.Module | None]
    ) -> tuple[list[str], list[tuple[str, nn.Module | None]]]:
        """Take note of what is registered now; return which names are gone, and what came, also in another's stead."""
        if self.names is _NO_NAMES:
            self.fill({})
        elif self._has_one_more(held):
            name, child = next(reversed(held.items()))
            self.names.append(name)
            self.ids.append(id(child))
            return [], [(name, child)]
        kept = max(len(self.ids) - NEWEST, 0)
        more = len(held) - kept
        newest = []
        if not 0 <= more <= 2 * NEWEST:
            kept = 0
        if kept:
            newest = [*islice(reversed(held.items()), more + 1)][::-1]
            name, last = newest.pop(0)
            if name != self.names[kept - 1] or id(last) != self.ids[kept - 1]:
                kept = 0
        if not kept:
            newest = [*held.items()]
        known = dict(zip(self.names[kept:], self.ids[kept:], strict=True))
        self.names[kept:] = [name for name, _ in newest]
        self.ids[kept:] = [id(child) for _, child in newest]
        gone = [name for name in known if name not in held]
        return gone, [each for each in newest if known.get(each[0]) != id(each[1])]

    def _has_one_more(self, held: dict[str, nn.Module | None]) -> bool:
        """Return whether one came behind the others, as most do; so far as the number and the newest say."""
        if len(held) != len(self.ids) + 1:
            return False
        newest = slice(None, -NEWEST - 1, -1)
        before = [*islice(reversed(held), 1, NEWEST + 1)]
        ids = [*map(id, islice(reversed(held.values()), 1, NEWEST + 1))]
        return before == self.names[newest] and ids == self.ids[newest]


def changed(places: Iterable[Place]) -> list[Place]:
    """Return where children came, went or moved."""
    found = []
    for place in places:
        module = None if place.module is None else place.module()
        if module is not None:
            held = vars(module)["_modules"]
            if [*map(id, held.values())] != place.ids or [*held] != place.names:
                found.append(place)
    return found


def kinds(modules: Iterable[nn.Module]) -> list[int]:
    """Return of each module a number that is another one once it is of another class, or has other parameters.

    No sizes of parameters: what shards a model gives it those of a part, and of the whole again, in each step.
    """
    found = []
    for module in modules:
        inside = vars(module)
        own = inside.get("_parameters") or ()
        compiled = inside.get("_compiled_call_impl") is not None
        found.append(hash((id(type(module)), len(own), compiled)))
    return found


class Entry(weakref.ref[nn.Module]):
    """A weak reference to a module that knows its ``id`` and the root that it was found below.

    Python discards what is raised in its callback, so that is a function of C. It has no `__init__`: those that nothing
    holds are new at each call.
    """

    __slots__ = ("key", "root")
    key: int
    root: Any  # a `Root`
