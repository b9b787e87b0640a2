"""What modules are called: by their classes as the program wrote them, and what wrappers do not show in names."""

from __future__ import annotations

import weakref
from collections import Counter, deque
from collections.abc import Callable
from itertools import count
from typing import Final

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from otel_torch_modules._recording.modules.module_tree import children, registry

_WRAPPED: Final = frozenset(
    {"_fsdp_wrapped_module", "_orig_mod", "_checkpoint_wrapped_module", "_forward_module"}
)
_ADDED_BASES: Final = frozenset({"FSDPModule", "ReplicateModule", "DDP"})
"""First bases of the classes that `fully_shard` and `replicate` of ``torch.distributed`` make."""


def wraps(module: nn.Module, name: str) -> bool:
    """Whether the child `name` is what `module` is a wrapper of."""
    if name == "module":
        return isinstance(module, (DataParallel, DistributedDataParallel))
    return name in _WRAPPED


def shown(module: nn.Module) -> nn.Module:
    """Return `module`, or what it is the ``torch.compile`` wrapper of."""
    # By name: importing the class would load all of Dynamo.
    while type(module).__name__ == "OptimizedModule":
        inner = dict(children(module)).get("_orig_mod")
        if inner is None:
            break
        module = inner
    return module


def shown_class(module: nn.Module) -> type:
    """Return the class as the program wrote it: ``fully_shard`` makes a class ``FSDPGPT`` out of ``GPT``."""
    cls = type(shown(module))
    if len(cls.__bases__) == 2:
        added, written = cls.__bases__
        if added.__name__ in _ADDED_BASES and added.__module__.startswith("torch.distributed."):
            return written
    return cls


def repeated_names(holder: nn.Module) -> frozenset[str]:
    """Return under which numbers `holder` has blocks that are repeated: layers, experts.

    Another one must be of the same class, and be made of modules or the only kind that `holder` numbers: the first and
    the third module of ``Sequential(Linear, ReLU, Linear)`` are no repetition.
    """
    numbered = [(name, child) for name, child in children(holder) if name.isdecimal()]
    counts = Counter(shown_class(child) for _, child in numbered)
    return frozenset(
        name
        for name, child in numbered
        if counts[shown_class(child)] > 1 and (len(counts) == 1 or registry(child))
    )


class RootNames:
    """Names of the modules that names begin with: ``Critic``, and ``Critic_1`` for another one that lives beside it.

    A number is given at the first call and free again when the module is gone, so that programs which make models
    again and again have the same few names, and so do ranks that do the same.
    """

    def __init__(self) -> None:
        self._taken: dict[str, dict[int, _Taken]] = {}  # class name -> number -> by which module
        self._left: deque[_Taken] = deque()  # by a module that is gone

    def of(self, module: nn.Module) -> str:
        """Return the name of `module`, the same as long as it lives."""
        while self._left:
            self._free(self._left.popleft())
        module = shown(module)
        class_name = shown_class(module).__name__
        if vars(module).get("_is_replica"):  # DataParallel's, new at each call
            return class_name
        taken = self._taken.setdefault(class_name, {})
        for known in list(taken.values()):
            if known() is module:
                return known.name
        for number in count():
            entry = _Taken(module, class_name, number, self._left.append)
            there = taken.setdefault(number, entry)
            if there is entry or there() is module:  # another thread has named it meanwhile
                return there.name
        raise AssertionError("there is no end to numbers")

    def _free(self, left: _Taken) -> None:
        taken = self._taken.get(left.class_name, {})
        if taken.get(left.number) is left:
            del taken[left.number]
            if not taken:
                del self._taken[left.class_name]


class _Taken(weakref.ref[nn.Module]):
    """A module that has a number among those of its class."""

    __slots__ = ("class_name", "number")
    class_name: str
    number: int

    def __new__(
        cls, module: nn.Module, class_name: str, number: int, left: Callable[[_Taken], None]
    ) -> _Taken:
        return super().__new__(cls, module, left)

    def __init__(
        self, module: nn.Module, class_name: str, number: int, left: Callable[[_Taken], None]
    ) -> None:
        self.class_name = class_name
        self.number = number

    @property
    def name(self) -> str:
        return f"{self.class_name}_{self.number}" if self.number else self.class_name
