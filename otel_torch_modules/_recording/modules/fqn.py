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

from otel_torch_modules._interruption import suppressed
from otel_torch_modules._recording.modules.holders import holder_of
from otel_torch_modules._recording.modules.module_names import RootNames, shown_class
from otel_torch_modules._recording.modules.module_tree import is_bare, parent_of
from otel_torch_modules._recording.modules.places import Entry, Place, Root
from otel_torch_modules._recording.open_log import OpenLog
from otel_torch_modules._records import Site
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
        if id(module) in self._roots:
            return None
        root = self._running_root(module)
        if root is None or id(module) in self._roots:  # another thread has made it one meanwhile
            return None
        return next(iter(root.callers.values()), None)

    def open(self, module: nn.Module) -> Root:
        """Return the root that gives `module`, which is called from no other one's call, and all below their names.

        It is looked for what has changed there, as often as costs less than half a percent of the time.
        """
        root = self._root(module)
        top = root.module()
        if top is not None and root.looks_changed(self._clock):
            self._walk(root, top)
        elif root.shares and root is not self._front:
            self._front = root
            self.by_id.update(root.sites)
        return root

    def bury(self) -> None:
        """Forget the modules that died."""
        for entry in list(self.died):
            self._forget(entry)
            with suppressed(ValueError):  # another thread was as fast
                self.died.remove(entry)

    def _root(self, module: nn.Module) -> Root:
        if self.died:
            self.bury()
        root = self._roots.get(id(module))
        return root or self._running_root(module) or self._new_root(module)

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
        site for each class and caller.
        """
        if self.died:
            self.bury()
        place: Place | None = None if caller is None else caller.place
        if place is None or place.module is None:
            return self.root(module)
        root = place.module.root
        holder = place.module_here()
        where = None if holder is None else parent_of(module, holder)
        added = None if where is None else root.add(module, *where)
        top = root.module()
        if where is not None and added is None and top is not None:
            self._walk(root, top)
            if id(module) in root.sites:
                return root.sites[id(module)]
        if added is None:
            added = root.add_stray(module, place)
        self._show(root, added)
        return added[id(module)]

    def _new_root(self, module: nn.Module) -> Root:
        held = holder_of(module)
        bare = held is None and is_bare(module)
        root = self._bare.get(type(module)) if bare else None
        if root is not None and root.site is not None and root.module() is None:
            root.move_in(root.site, module)
            self._show(root, root.sites)
        else:
            if held is not None:
                name = f"{self._names.of(held.module)}.{held.path}"
            else:
                name = shown_class(module).__name__ if bare else self._names.of(module)
            root = Root(name, self._names, self._recorded, self._forget, self.died.append)
            self._walk(root, module)
        self._roots[id(module)] = root
        if bare:
            self._bare.put(type(module), root)
        return root

    def _walk(self, root: Root, module: nn.Module) -> None:
        before = root.sites
        root.walk(module)
        for key in before.keys() - root.sites.keys():
            if self.by_id.get(key) is before[key]:
                del self.by_id[key]
        self._show(root, root.sites)

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
        root = self._roots.get(key)
        if root is entry.root and _is_left_by(entry, root.entry):
            self._roots.pop(key, None)
        for sites in (self.by_id, entry.root.sites):
            site = sites.get(key)
            if site is not None and _is_left_by(entry, site.place.module):
                sites.pop(key, None)


def _is_left_by(entry: Entry, here: Entry | None) -> bool:
    """Return whether what is found by the id of `entry` is still its own, though another one may be `here` since."""
    return here is None or here is entry or here.key != entry.key
