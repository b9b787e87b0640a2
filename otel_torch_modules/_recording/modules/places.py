"""The modules below one root as places with sites: what stays where it is keeps its site, whatever moves around it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from torch import nn

from otel_torch_modules._recording.dynamo import made_by_compiler
from otel_torch_modules._recording.modules.module_names import (
    RootNames,
    repeated_names,
    shown,
    shown_class,
    wraps,
)
from otel_torch_modules._recording.modules.module_tree import (
    children,
    is_bare,
    module_count,
    parameter_counts,
    registry,
)
from otel_torch_modules._recording.open_log import OpenLog
from otel_torch_modules._recording.torch_private import runs_compiled_code
from otel_torch_modules._records import Site
from otel_torch_modules._texts import encodable
from otel_torch_modules._weak_table import WeakTable

# A root is looked at for changes each time that it opens, unless that would take more than half a percent of the time.
_LOOK_SHARE: Final = 200
_FEW: Final = 16  # modules with children take less than a step's opening: always looked at

# A leaf's; garbage collections take longer with each dictionary.
_NO_SITES: Final[dict[str, Site]] = {}


class Place:
    """What a site's modules are known by: kept on the site, so that it goes with it."""

    __slots__ = ("below", "ids", "module", "names", "strays")

    def __init__(self) -> None:
        self.module: Entry | None = None  # the one that came here last
        # Its children when they were last looked at, and the sites of those that have this way first.
        self.names: Sequence[str] = ()
        self.ids: Sequence[int] = ()
        self.below: dict[str, Site] = _NO_SITES
        self.strays: WeakTable[type, Site] | None = None  # called from here

    def module_here(self) -> nn.Module | None:
        """Return the module that came here last, if it lives."""
        return None if self.module is None else self.module()


class Entry(weakref.ref[nn.Module]):
    """A weak reference to a module that knows its ``id`` and the root that it was found below.

    Python discards what is raised in its callback, so that is to be a function of C.
    """

    __slots__ = ("key", "root")
    key: int
    root: Root

    def __new__(cls, module: nn.Module, root: Root) -> Entry:
        return super().__new__(cls, module, root.died)

    def __init__(self, module: nn.Module, root: Root) -> None:
        self.key = id(module)
        self.root = root


class _Found(NamedTuple):
    """A module that has to be given a place."""

    module: nn.Module
    fqn: str
    pattern: str
    outermost: bool  # the root, or what only wrappers keep from being it: called by its class
    above: Place | None
    name: str
    known: Site | None  # who was here before
    wrapper: Site | None  # ``torch.compile``'s, whose call and its own are one


class Root:
    """A module that is called from no other one's call, and the sites of all that is below it.

    Args:
        name: what all names begin with.
        names: those of roots.
        recorded: told a name and a class name, whether calls of that module are recorded.
        forget: told of a module that is replaced.
        died: called with the entry of a module that died; a function of C.
    """

    def __init__(
        self,
        name: str,
        names: RootNames,
        recorded: Callable[[str, str], bool],
        forget: Callable[[Entry], None],
        died: Callable[[Entry], None],
    ) -> None:
        self.name = name
        self.died = died
        self._names = names
        self._recorded = recorded
        self._forget = forget
        self.entry: Entry | None = None
        """The root itself."""
        self.sites: dict[int, Site] = {}
        """``id`` of each module that lives -> its site."""
        self.callers: dict[int, OpenLog] = {}
        """Codes of the threads in which it runs now, and what its call there writes to."""
        self.site: Site | None = None
        """That of the root itself."""
        self.shares = False
        """Whether another root has some of the modules too."""
        self._parents: list[Place] = []
        self._whole = False  # no walk was broken off
        self._looked_at = 0
        self._looks = (0, 0)  # ns that the last two took

    def module(self) -> nn.Module | None:
        """Return the root itself, if it lives."""
        return None if self.entry is None else self.entry()

    def looks_changed(self, clock: Callable[[], int]) -> bool:
        """Return whether modules came, went or moved, if it is time to look."""
        if not self._whole:
            return True
        time = clock()
        look = min(self._looks)  # one of the two may have been interrupted
        if len(self._parents) > _FEW and time - self._looked_at < _LOOK_SHARE * look:
            return False
        self._looked_at = time
        changed = self._has_changed()
        self._looks = (self._looks[1], clock() - time)
        return changed

    def _has_changed(self) -> bool:
        for place in self._parents:
            module = None if place.module is None else place.module()
            if module is None:
                continue
            held = vars(module)["_modules"]
            if [*map(id, held.values())] != place.ids or [*held] != place.names:
                return True
        return False

    def walk(self, module: nn.Module) -> None:
        """Give a place to the root `module` and to each module below it, by the first way to it."""
        self._whole = False
        self._parents = []
        known = self.sites.get(id(module))
        self.sites = self._place(
            _Found(module, self.name, self.name, True, None, "", known, None), {}
        )
        self.site = self.sites[id(module)]
        self.entry = self.site.place.module
        self._whole = True

    def move_in(self, site: Site, module: nn.Module) -> None:
        """Give the place of `site` to a module that is bare, as the one before it was."""
        here: Entry | None = site.place.module
        if here is not None:
            self._forget(here)
        entry = site.place.module = Entry(module, self)
        self.sites[entry.key] = site
        if site is self.site:
            self.entry = entry

    def add(self, module: nn.Module, parent: nn.Module, name: str) -> dict[int, Site] | None:
        """Give a place to a new child and to what is below it; None where its siblings may have moved too."""
        site = self.sites.get(id(parent))
        if site is None:
            return None
        above: Place = site.place
        held = registry(parent)
        known = above.below.get(name)
        if len(held) == len(above.names) + 1 and known is None and next(reversed(held)) == name:
            above.names = [*above.names, name]
            above.ids = [*above.ids, id(module)]
        elif len(held) == len(above.names) and known is not None and not known.place.module_here():
            above.ids = [*map(id, held.values())]
        else:
            return None
        beside = known or next(reversed(above.below.values()), None)
        starred = beside is not None and name.isdecimal() and beside.pattern.endswith(".*")
        if wraps(parent, name) or (len(above.below) == 1 and known is None and name.isdecimal()):
            return None  # the first sibling may be the first of a row now
        pattern = f"{site.pattern}.{'*' if starred else name}"
        found = _Found(module, f"{site.fqn}.{name}", pattern, False, above, name, known, None)
        return self._add(found)

    def add_stray(self, module: nn.Module, caller: Place) -> dict[int, Site]:
        """Give a module that nothing holds the place of those of its class that are called from the same module."""
        if caller.strays is None:
            caller.strays = WeakTable()
        known = caller.strays.get(type(module))
        if known is not None and not known.parameters and not known.place.names and is_bare(module):
            self.move_in(known, module)
            return {id(module): known}
        name = shown_class(module).__name__
        added = self._add(_Found(module, name, name, False, None, "", known, None))
        caller.strays.put(type(module), added[id(module)])
        return added

    def _add(self, found: _Found) -> dict[int, Site]:
        added = self._place(found, self.sites)
        self.sites.update(added)
        return added

    def _place(self, found: _Found, others: dict[int, Site]) -> dict[int, Site]:
        """Return the sites of a module and of all below it but those that have one among the `others`."""
        sites: dict[int, Site] = {}
        counts = parameter_counts(found.module)
        stack = [found]
        while stack:
            found = stack.pop()
            module, fqn, pattern, outermost, above, name, known, wrapper = found
            key = id(module)
            if key in sites or key in others:
                continue
            site = self._site(module, fqn, pattern, counts[key], wrapper)
            below = _NO_SITES if known is None else known.place.below
            if known is not None and known.is_like(site):
                site = known
            else:
                site.place = Place()
            sites[key] = site
            if above is not None:
                above.below[name] = site
            place: Place = site.place
            here = place.module
            if here is None or here() is not module:
                if here is not None:
                    self._forget(here)
                place.module = Entry(module, self)
            held = registry(module)
            inside = children(module)
            if not inside and not held:
                place.names, place.ids, place.below = (), (), _NO_SITES
                continue
            place.names, place.ids, place.below = [*held], [*map(id, held.values())], {}
            if held:
                self._parents.append(place)
            compiled = site if shown(module) is not module else None
            repeated = repeated_names(module)
            for name, child in reversed(inside):
                inner = wraps(module, name)
                if not inner:
                    child_fqn = f"{fqn}.{name}"
                    child_pattern = f"{pattern}.{'*' if name in repeated else name}"
                elif outermost:
                    child_fqn = child_pattern = self._names.of(child)
                else:
                    child_fqn, child_pattern = fqn, pattern
                stack.append(
                    _Found(
                        child,
                        child_fqn,
                        child_pattern,
                        outermost and inner,
                        place,
                        name,
                        below.get(name),
                        compiled if name == "_orig_mod" else None,
                    )
                )
        return sites

    def _site(
        self, module: nn.Module, fqn: str, pattern: str, parameters: int, wrapper: Site | None
    ) -> Site:
        cls, inner = shown_class(module), shown(module)
        recorded = self._recorded(fqn, cls.__name__) and not made_by_compiler(module)
        site = Site(
            encodable(fqn),
            cls.__name__,
            pattern=encodable(pattern),
            function_name=encodable(f"{cls.__module__}.{cls.__qualname__}.forward"),
            parameters=parameters,
            container=isinstance(inner, (nn.Sequential, nn.ModuleList, nn.ModuleDict)),
            compiled_modules=module_count(inner)
            if inner is not module or runs_compiled_code(module)
            else 0,
            recorded=recorded and wrapper is None,
        )
        if recorded:
            site.wrapper = wrapper
        return site
