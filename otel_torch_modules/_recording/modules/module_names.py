"""What modules are called: by their classes as the program wrote them, and what wrappers do not show in names."""

from __future__ import annotations

import threading
import weakref
from collections import Counter, deque
from heapq import heappop, heappush
from typing import Final

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from otel_torch_modules._recording.class_attributes import bases, class_name, full_name
from otel_torch_modules._recording.modules.module_tree import children, registry

_WRAPPED: Final = frozenset(
    {"_fsdp_wrapped_module", "_orig_mod", "_checkpoint_wrapped_module", "_forward_module"}
)
COMPILED: Final = "OptimizedModule"
"""What `torch.compile` makes, by name: importing the class would load all of Dynamo."""

_PLAIN: Final = (int, float, bool, type(None))

_ADDED_BASES: Final = frozenset({"FSDPModule", "ReplicateModule", "DDP"})
"""First bases of the classes that `fully_shard` and `replicate` of ``torch.distributed`` make."""


def text_of(name: object) -> str:
    """Return the name of a child as a text: what writes to the registry itself may take anything for one."""
    if type(name) is str:
        return name
    if issubclass(type(name), str):
        return str.__str__(name)  # not what its class makes of it
    return str(name) if type(name) in _PLAIN else class_name(type(name))


def wraps(module: nn.Module, name: str) -> bool:
    """Whether the child `name` is what `module` is a wrapper of."""
    if type(name) is not str:
        name = text_of(name)
    if name == "module":
        return issubclass(type(module), (DataParallel, DistributedDataParallel))
    return name in _WRAPPED


def shown(module: nn.Module) -> nn.Module:
    """Return `module`, or what it is the ``torch.compile`` wrapper of."""
    while class_name(type(module)) == COMPILED:
        inner = dict(children(module)).get("_orig_mod")
        if inner is None:
            break
        module = inner
    return module


def shown_class(module: nn.Module) -> type:
    """Return the class as the program wrote it: ``fully_shard`` makes a class ``FSDPGPT`` out of ``GPT``."""
    cls = type(shown(module))
    made_of = bases(cls)
    if len(made_of) == 2:
        added, written = made_of
        if class_name(added) in _ADDED_BASES and full_name(added).startswith("torch.distributed."):
            return written
    return cls


def shown_name(module: nn.Module) -> str:
    """Return the name of the class as the program wrote it."""
    return class_name(shown_class(module))


def repeated_names(holder: nn.Module) -> frozenset[str]:
    """Return under which numbers `holder` has blocks that are repeated: layers, experts.

    Another one must be of the same class, and be made of modules or the only kind that `holder` numbers: the first and
    the third module of ``Sequential(Linear, ReLU, Linear)`` are no repetition.
    """
    numbered = [(name, child) for name, child in children(holder) if text_of(name).isdecimal()]
    types = {id(type(child)) for _, child in numbered}
    if len(types) == 1 and class_name(type(numbered[0][1])) != COMPILED:  # as most are
        return frozenset([name for name, _ in numbered] if len(numbered) > 1 else ())
    counts = Counter(id(shown_class(child)) for _, child in numbered)
    return frozenset(
        name
        for name, child in numbered
        if counts[id(shown_class(child))] > 1 and (len(counts) == 1 or registry(child))
    )


class RootNames:
    """Names of the modules that names begin with: ``Critic``, and ``Critic_1`` for another one that lives beside it.

    A number is given at the first call and free again when the module is gone, so that programs which make models
    again and again have the same few names, and so do ranks that do the same.
    """

    def __init__(self) -> None:
        self._taken: dict[int, _Taken] = {}  # by the id of the module
        self._numbers: dict[str, _Numbers] = {}  # by class name
        self._left: deque[_Taken] = deque()  # by a module that is gone
        self._lock = threading.RLock()  # a signal handler may call modules too

    def of(self, module: nn.Module) -> str:
        """Return the name of `module`, the same as long as it lives and is of its class."""
        module = shown(module)
        class_name = shown_name(module)
        if vars(module).get("_is_replica"):  # DataParallel's, new at each call
            return class_name
        with self._lock:
            while self._left:
                self._free(self._left.popleft())
            known = self._taken.get(id(module))
            if known is not None and known() is module:
                if known.numbers.class_name == class_name:
                    return known.name
                self._free(known)  # it is of another class now
            numbers = self._numbers.setdefault(class_name, _Numbers(class_name))
            entry = _Taken(module, self._left.append)
            entry.key, entry.numbers, entry.number = id(module), numbers, numbers.take()
            self._taken[entry.key] = entry
            return entry.name

    def _free(self, left: _Taken) -> None:
        if self._taken.get(left.key) is left:
            del self._taken[left.key]
        left.numbers.give_back(left.number)
        if not left.numbers.taken:
            self._numbers.pop(left.numbers.class_name, None)


class _Numbers:
    """Which numbers of a class are taken; the least that is free comes first."""

    __slots__ = ("_free", "_never_taken", "class_name", "taken")

    def __init__(self, class_name: str) -> None:
        self.class_name = class_name
        self._free: list[int] = []
        self._never_taken = 0
        self.taken = 0

    def take(self) -> int:
        self.taken += 1
        if self._free:
            return heappop(self._free)
        self._never_taken += 1
        return self._never_taken - 1

    def give_back(self, number: int) -> None:
        self.taken -= 1
        heappush(self._free, number)


class _Taken(weakref.ref[nn.Module]):
    """A module that has a number among those of its class."""

    __slots__ = ("key", "number", "numbers")
    key: int
    number: int
    numbers: _Numbers

    @property
    def name(self) -> str:
        class_name = self.numbers.class_name
        return f"{class_name}_{self.number}" if self.number else class_name
