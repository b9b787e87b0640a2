"""The modules below one root, each with a site: what stays where it is keeps its site, whatever moves around it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final, NamedTuple

from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin

from otel_torch_modules._recording.modules.looks import Looks, LooksForNew, LooksForTurned
from otel_torch_modules._recording.modules.module_names import (
    RootNames,
    repeated_names,
    shown,
    shown_name,
    text_of,
    wraps,
)
from otel_torch_modules._recording.modules.module_tree import (
    LISTS,
    children,
    is_bare,
    is_to_be_made,
    parameter_counts,
    registry,
)
from otel_torch_modules._recording.modules.new_site import new_site
from otel_torch_modules._recording.modules.places import Entry, Place, changed, kinds
from otel_torch_modules._recording.open_log import OpenLog
from otel_torch_modules._site import Site
from otel_torch_modules._weak_table import WeakTable

# To look at so many takes less than a step's opening.
_FEW_PARENTS: Final = 16
_FEW_CHILDREN: Final = 64  # of each
_FEW_SIBLINGS: Final = 8


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
        self.class_id = 0
        """``id`` of the class that the root is of."""
        self.site: Site | None = None
        """That of the root itself."""
        self.shares = False
        """Whether another root has some of the modules too."""
        self.parents: dict[Place, None] = {}
        """Of the modules that have others registered."""
        self._whole = False  # no walk was broken off
        self._many = False  # so that not each opening looks at all
        self._looks = Looks()
        self.looks_for_turned = LooksForTurned()
        self._to_be_made: list[Place] = []  # of lazy modules
        self.looks_for_new = LooksForNew()

    def module(self) -> nn.Module | None:
        """Return the root itself, if it lives."""
        return None if self.entry is None else self.entry()

    def looks_changed(self, clock: Callable[[], int]) -> bool:
        """Return whether modules came, went or moved, if it is time to look."""
        if not self._whole or (self._to_be_made and self._one_is_made()):
            return True
        time, turned = clock(), self.looks_for_turned
        if time >= turned.due and turned.find_any(self.sites, clock):
            return True
        if not self.parents:
            return False
        if not self._many:
            return bool(changed(list(self.parents)))
        if time < self._looks.due:
            return False
        has_changed = bool(changed(list(self.parents)))
        self._looks.took(time, clock())
        return has_changed

    def _one_is_made(self) -> bool:
        """Return whether a lazy module has its parameters now."""
        modules = [place.module_here() for place in self._to_be_made]
        return any(module is not None and not is_to_be_made(module) for module in modules)

    def walk(self, module: nn.Module) -> None:
        """Give a place to the root `module` and to each module below it, by the first way to it."""
        self._whole = self._many = False
        self.parents = {}
        self._to_be_made = []
        known = self.sites.get(id(module))
        self.sites = self._place(
            _Found(module, self.name, self.name, True, None, "", known, None), {}
        )
        self.class_id = id(type(module))
        self.site = self.sites[id(module)]
        self.entry = self.site.place.module
        self._whole = True

    def renew(self, place: Place) -> tuple[dict[int, Site], dict[int, Site]] | None:
        """Give places to what came to the module at `place`, and to all below that.

        Return the sites of what has left, and of what came; None where it takes a walk to know.
        """
        module = place.module_here()
        site = None if module is None else self.sites.get(id(module))
        if module is None or site is None or site.place is not place:
            return None
        held = registry(module)
        names, came = place.take_in(held)
        names += [name for name, _ in came]
        for name in names:
            if wraps(module, name):
                return None
        numbered = [name for name in names if text_of(name).isdecimal()]
        repeated: Collection[str] = ()
        if numbered and len(held) <= _FEW_SIBLINGS:
            repeated = repeated_names(module)
            for (
                name,
                site_there,
            ) in place.below.items():  # one alone may be one of a row now, or no more
                if name not in names and site_there.pattern.endswith(".*") != (name in repeated):
                    names.append(name)
                    came.append((name, held[name]))
        elif numbered:  # as those beside them are
            beside = next(reversed(place.below.values()), None)
            repeated = numbered if beside is not None and beside.pattern.endswith(".*") else ()
        below = place.below
        known = {name: below.pop(name) for name in names if name in below}
        left = self._take_out(place, [*known.values()]) if known else {}
        self._add_parent(place)
        added: dict[int, Site] = {}
        for name, child in came:
            if isinstance(child, nn.Module):
                text = text_of(name)
                pattern = f"{site.pattern}.{'*' if name in repeated else text}"
                fqn = f"{site.fqn}.{text}"
                found = _Found(child, fqn, pattern, False, place, name, known.get(name), None)
                added.update(self._add(found))
        return left, added

    def _take_out(self, above: Place, left: list[Site]) -> dict[int, Site]:
        """Let children of the module at `above`, and all below them, have no place."""
        found: dict[int, Site] = {}
        for site in left:
            place: Place = site.place
            entry = place.module
            if entry is not None and self.sites.get(entry.key) is site:
                found[entry.key] = self.sites.pop(entry.key)
            self.parents.pop(place, None)
            if place in above.lists:
                above.lists.remove(place)
            left += place.below.values()
        return found

    def move_in(self, site: Site, module: nn.Module) -> None:
        """Give the place of `site` to a module that is bare, as the one before it was."""
        here: Entry | None = site.place.module
        if here is not None and here() is not None:  # else it is buried, or will be
            self._forget(here)
        entry = site.place.module = self._enter(module)
        [site.place.kind] = kinds([module])
        self.sites[entry.key] = site
        if site is self.site:
            self.entry = entry

    def stray_moves_in(self, module: nn.Module, caller: Place) -> Site | None:
        """Give a module that is bare and held by nothing the place of the last one of its class with that caller.

        Return the site; None where there was none.
        """
        known = None if caller.strays is None else caller.strays.get(type(module))
        if known is None or known.parameters or known.place.ids or not is_bare(module):
            return None
        self.move_in(known, module)
        return known

    def add_stray(self, module: nn.Module, caller: Place) -> dict[int, Site]:
        """Give a module that nothing holds the place of those of its class that are called from the same module."""
        if caller.strays is None:
            caller.strays = WeakTable()
        known = caller.strays.get(type(module))
        name = shown_name(module)
        added = self._add(_Found(module, name, name, False, None, "", known, None))
        caller.strays.put(type(module), added[id(module)])
        return added

    def _enter(self, module: nn.Module) -> Entry:
        entry = Entry(module, self.died)
        entry.key = id(module)
        entry.root = self
        return entry

    def _add_parent(self, place: Place) -> None:
        self.parents[place] = None
        if len(place.ids) > _FEW_CHILDREN or len(self.parents) > _FEW_PARENTS:
            self._many = True

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
            site = new_site(module, fqn, pattern, counts[key], self._recorded, wrapper)
            below = {} if known is None else known.place.below
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
                place.module = self._enter(module)
            [place.kind] = kinds([module])
            if issubclass(type(module), LazyModuleMixin) and is_to_be_made(module):
                self._to_be_made.append(place)
            if above is not None and issubclass(type(module), LISTS):
                above.lists.append(place)
            held = registry(module)
            inside = children(module)
            if not inside and not held:
                if site is known:
                    place.empty()
                continue
            place.fill(held)
            if held:
                self._add_parent(place)
            compiled = site if shown(module) is not module else None
            repeated = repeated_names(module)
            for name, child in reversed(inside):
                inner = wraps(module, name)
                if not inner:
                    text = text_of(name)
                    child_fqn = f"{fqn}.{text}"
                    child_pattern = f"{pattern}.{'*' if name in repeated else text}"
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
