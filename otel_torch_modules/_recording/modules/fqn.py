"""Module -> fully qualified name, and what else all calls of a module have in common.

Names are class-rooted: ``GPT``, ``GPT.h.0.attn.q_proj``; what follows the first dot is the prefix of the module's
entries in ``state_dict``, without the wrappers of DDP, FSDP, ``torch.compile`` and activation checkpointing. They are
those of the root that is called, as it is now. The map is keyed by ``id``, for modules may have an ``__eq__`` of their
own, and holds no module alive.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import perf_counter_ns

from torch import nn

from otel_torch_modules._interruption import is_interruption
from otel_torch_modules._recording.modules.holders import holder_of
from otel_torch_modules._recording.modules.module_names import RootNames, shown_name
from otel_torch_modules._recording.modules.module_tree import is_bare
from otel_torch_modules._recording.modules.places import Entry, Place
from otel_torch_modules._recording.modules.root import Root
from otel_torch_modules._recording.open_log import OpenLog
from otel_torch_modules._site import Site
from otel_torch_modules._weak_table import WeakTable


class ModuleSites:
    """The sites of all modules met so far.

    Args:
        recorded: told a name and a class name, whether calls of that module are recorded.
        clock: nanoseconds; tests hand in their own.
    """

    def __init__(
        self, recorded: Callable[[str, str], bool], clock: Callable[[], int] = perf_counter_ns
    ) -> None:
        self.by_id: dict[int, Site] = {}
        """``id(module)`` -> its site: what the hot path reads. A miss is for :meth:`add`."""
        self.died: deque[Entry] = deque()
        """Those of modules that died, and whose sites are still here: while there are any, `bury` before a look."""
        self._recorded = recorded
        self._clock = clock
        self.clear()

    def clear(self) -> None:
        """Forget all modules."""
        self.by_id.clear()
        self._roots: dict[int, Root] = {}
        self._front: Root | None = None  # of those that share modules, the one called last
        self._names = RootNames()
        self._bare = WeakTable[type, Root]()  # as criteria are

    def root(self, module: nn.Module) -> Site:
        """Return the site of `module`, which is called from no other one's call."""
        return self._root(module).sites[id(module)]

    def running(self, module: nn.Module) -> OpenLog | None:
        """Return what the call of a root writes to that runs in another thread and has `module`, its part, called here.

        None where there is no such root.
        """
        if self.died:
            self.bury()
        if id(module) in self._roots or id(module) not in self.by_id:
            return None
        root = self._running_root(module)
        if root is None or id(module) in self._roots:  # another thread has made it one meanwhile
            return None
        return next(iter(root.callers.values()), None)

    def open(self, module: nn.Module) -> Root:
        """Return the root that gives `module`, which is called from no other one's call, and all below their names.

        It is looked for what has changed there, as often as costs less than half a percent of the time.
        """
        root = None if self.died else self._roots.get(id(module))
        if root is None or root.class_id != id(type(module)):
            root = self._root(module)
        if root.looks_changed(self._clock) and (top := root.module()) is not None:
            self._walk(root, top)
        elif root.shares and root is not self._front:
            self._front = root
            self.by_id.update(root.sites)
        return root

    def bury(self) -> None:
        """Forget the modules that died."""
        for entry in list(self.died):
            self._forget(entry)
            try:
                self.died.remove(entry)
            except ValueError as error:  # another thread was as fast
                if is_interruption(error):
                    raise

    def _root(self, module: nn.Module) -> Root:
        if self.died:
            self.bury()
        root = self._roots.get(id(module))
        if root is None:
            return self._running_root(module) or self._new_root(module)
        if root.class_id != id(type(module)) and not root.callers:  # its class was changed
            root.name, _ = self._name_of(module)
            self._walk(root, module)
        return root

    def _running_root(self, module: nn.Module) -> Root | None:
        """Return the root that runs and has `module`, a part of it, called here."""
        known = self.by_id.get(id(module))
        if known is None:
            return None
        root: Root = known.place.module.root
        return root if root.callers else None

    def add(self, module: nn.Module, caller: Site | None) -> Site:
        """Return the site of `module`, new since its root opened and called from a call of `caller`.

        It is looked for in the caller's module and its lists. What is not there, as ``nn.ReLU()(x)`` makes it, has one
        site for each class and caller. So has for a while what takes another one's place far from the end of a long
        list.
        """
        if self.died:
            self.bury()
        place: Place | None = None if caller is None else caller.place
        if place is None or place.module is None:
            return self.root(module)
        root: Root = place.module.root
        known = root.sites.get(id(module))
        if known is not None:  # by another thread meanwhile
            self.by_id[id(module)] = known
            return known
        for changed in root.looks_for_new.changed(place, self._clock):
            self._renew(root, changed)
            if id(module) in root.sites:
                return root.sites[id(module)]
        site = root.stray_moves_in(module, place)
        if site is not None:
            self.by_id[id(module)] = site
            return site
        added = root.add_stray(module, place)
        self._show(root, added)
        return added[id(module)]

    def _renew(self, root: Root, place: Place) -> None:
        renewed = root.renew(place)
        top = root.module()
        if renewed is not None:
            left, added = renewed
            self._hide(root, left)
            self._show(root, added)
        elif top is not None:
            self._walk(root, top)

    def _new_root(self, module: nn.Module) -> Root:
        name, bare = self._name_of(module)
        root = self._bare.get(type(module)) if bare else None
        if (
            root is not None
            and root.site is not None
            and root.class_id == id(type(module))
            and root.module() is None
        ):
            root.move_in(root.site, module)
            self._show(root, root.sites)
        else:
            root = Root(name, self._names, self._recorded, self._forget, self.died.append)
            self._walk(root, module)
            if bare:
                self._bare.put(type(module), root)
        self._roots[id(module)] = root
        return root

    def _name_of(self, module: nn.Module) -> tuple[str, bool]:
        """Return what a root is called, and whether that is by its class alone: a criterion's, as there may be many."""
        held = holder_of(module)
        if held is not None:
            return f"{self._names.of(held.module)}.{held.path}", False
        bare = is_bare(module)
        return shown_name(module) if bare else self._names.of(module), bare

    def _walk(self, root: Root, module: nn.Module) -> None:
        before, began = root.sites, self._clock()
        root.walk(module)
        root.looks_for_turned.walked(began, self._clock())
        self._hide(root, before)
        self._show(root, root.sites)

    def _hide(self, root: Root, left: dict[int, Site]) -> None:
        for key, site in left.items():
            if key not in root.sites and self.by_id.get(key) is site:
                del self.by_id[key]

    def _show(self, root: Root, sites: dict[int, Site]) -> None:
        for key in sites:
            other = self.by_id.get(key)
            if other is not None and other.place.module.root is not root:
                other.place.module.root.shares = root.shares = True
        self.by_id.update(sites)
        if root.shares:
            self._front = root

    def _forget(self, entry: Entry) -> None:
        """Drop the module of `entry`, but not another one that has its id since."""
        key = entry.key
        root: Root = entry.root
        if self._roots.get(key) is root and _is_left_by(entry, root.entry):
            self._roots.pop(key, None)
        for sites in (self.by_id, root.sites):
            site = sites.get(key)
            if site is not None:
                here = site.place.module
                if here is entry or here is None or here.key != key:
                    sites.pop(key, None)
                if here is entry:
                    root.parents.pop(site.place, None)


def _is_left_by(entry: Entry, here: Entry | None) -> bool:
    """Return whether what is found by the id of `entry` is still its own, though another one may be `here` since."""
    return here is None or here is entry or here.key != entry.key
