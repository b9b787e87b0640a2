"""Module -> fully qualified name, and what else all calls of a module have in common.

Names are class-rooted: ``GPT``, ``GPT.h.0.attn.q_proj``; what follows the first dot is the prefix of the module's
entries in ``state_dict``, without the wrappers of DDP, FSDP, ``torch.compile`` and activation checkpointing. The map is
keyed by ``id``, for modules may have an ``__eq__`` of their own, and holds no module alive.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from otel_torch_modules._recording.dynamo import made_by_compiler
from otel_torch_modules._recording.module_tree import children, parameter_counts
from otel_torch_modules._records import Site
from otel_torch_modules._texts import encodable

_WRAPPED: Final = frozenset(
    {"_fsdp_wrapped_module", "_orig_mod", "_checkpoint_wrapped_module", "_forward_module"}
)
_ADDED_BASES: Final = frozenset({"FSDPModule", "ReplicateModule", "DDP"})
"""First bases of the classes that `fully_shard` and `replicate` of ``torch.distributed`` make."""

_SEARCHES_PER_CLASS: Final = 16
"""After so many modules of a class that no known root holds, the next is not looked for.

A module made inside ``forward``, as in ``nn.Softmax(dim=-1)(scores)``, would else cost a search of the whole model at
every call.
"""


class ModuleSites:
    """The sites of all modules met so far.

    Args:
        recorded: told a name and a class name, whether calls of that module are recorded.
    """

    def __init__(self, recorded: Callable[[str, str], bool]) -> None:
        self.by_id: dict[int, Site] = {}
        """``id(module)`` -> its site: what the hot path reads. A miss is for :meth:`add`."""
        self._recorded = recorded
        self._entries: dict[int, _Entry] = {}
        self._strays: Counter[str] = Counter()

    def add(self, module: nn.Module) -> Site:
        """Name `module` and everything below it; return its site.

        A module that a root met before holds by now has its name from there; any other is a root itself. What was
        first called by itself and is below the root now named takes its name from that root.
        """
        holder = self._holder(module)
        self._name(module if holder is None else holder)
        return self.by_id[id(module)]

    def clear(self) -> None:
        """Forget all modules."""
        self._entries.clear()
        self.by_id.clear()
        self._strays.clear()

    def _holder(self, module: nn.Module) -> nn.Module | None:
        """Return the first living root that has `module` below it."""
        class_name = _shown_class(module).__name__
        if self._strays[class_name] >= _SEARCHES_PER_CLASS:
            return None
        for entry in list(self._entries.values()):
            root = entry() if entry.key == entry.root else None
            if root is not None and any(held is module for held, _ in _named(root)):
                return root
        self._strays[class_name] += bool(self._entries)
        return None

    def _name(self, root: nn.Module) -> None:
        names = {id(module): (module, fqn) for module, fqn in _named(root)}
        counts = parameter_counts(root)
        for key, (module, fqn) in names.items():
            known = self._entries.get(key)
            if known is not None and (known.root == id(root) or known.root not in names):
                continue
            self._entries[key] = _Entry(module, id(root), self._forget)
            self.by_id[key] = self._site(module, fqn, counts[key])
        for module, _ in names.values():
            if _shown(module) is not module:
                self._pass_over(module)

    def _pass_over(self, wrapper: nn.Module) -> None:
        """Show the call of a ``torch.compile`` wrapper and of what it wraps as one."""
        site = self.by_id[id(wrapper)]
        inner = self.by_id.get(id(dict(children(wrapper))["_orig_mod"]))
        if inner is not None and inner.recorded:
            inner.recorded = False
            inner.wrapper = site

    def _site(self, module: nn.Module, fqn: str, parameters: int) -> Site:
        shown = _shown(module)
        cls = _shown_class(module)
        return Site(
            encodable(fqn),
            cls.__name__,
            function_name=encodable(f"{cls.__module__}.{cls.__qualname__}.forward"),
            parameters=parameters,
            container=isinstance(shown, (nn.Sequential, nn.ModuleList, nn.ModuleDict)),
            compiled=shown is not module or vars(module).get("_compiled_call_impl") is not None,
            recorded=self._recorded(fqn, cls.__name__) and not made_by_compiler(module),
        )

    def _forget(self, entry: _Entry) -> None:
        """Drop the module that died, but not another one that has its id since."""
        if self._entries.get(entry.key) is entry:
            del self._entries[entry.key]
            self.by_id.pop(entry.key, None)


class _Entry(weakref.ref[nn.Module]):
    """A weak reference to a module that knows its place: ``id`` of the module and of the root that named it."""

    __slots__ = ("key", "root")
    key: int
    root: int

    def __new__(cls, module: nn.Module, root: int, forget: Callable[[_Entry], None]) -> _Entry:
        return super().__new__(cls, module, forget)

    def __init__(self, module: nn.Module, root: int, forget: Callable[[_Entry], None]) -> None:
        self.key = id(module)
        self.root = root


def _named(root: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Yield `root` and all modules below it with their names, parents first, each by the first way to it."""
    seen: set[int] = set()
    # Outermost are the root and what only wrappers keep from being it: they are called by their class.
    stack = [(root, _shown_class(root).__name__, True)]
    while stack:
        module, fqn, outermost = stack.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        yield module, fqn
        for name, child in reversed(children(module)):
            if not _wraps(module, name):
                stack.append((child, f"{fqn}.{name}", False))
            elif outermost:
                stack.append((child, _shown_class(child).__name__, True))
            else:
                stack.append((child, fqn, False))


def _wraps(module: nn.Module, name: str) -> bool:
    """Whether the child `name` is what `module` is a wrapper of."""
    if name == "module":
        return isinstance(module, (DataParallel, DistributedDataParallel))
    return name in _WRAPPED


def _shown(module: nn.Module) -> nn.Module:
    """Return `module`, or what it is the ``torch.compile`` wrapper of."""
    # By name: importing the class would load all of Dynamo.
    while type(module).__name__ == "OptimizedModule":
        inner = dict(children(module)).get("_orig_mod")
        if inner is None:
            break
        module = inner
    return module


def _shown_class(module: nn.Module) -> type:
    """Return the class as the program wrote it: ``fully_shard`` makes a class ``FSDPGPT`` out of ``GPT``."""
    cls = type(_shown(module))
    if len(cls.__bases__) == 2:
        added, written = cls.__bases__
        if added.__name__ in _ADDED_BASES and added.__module__.startswith("torch.distributed."):
            return written
    return cls
