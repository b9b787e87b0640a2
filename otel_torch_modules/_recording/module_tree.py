"""The tree of modules below a root, as the registries say, without running any code of the modules themselves.

``named_children`` puts modules into a set and may be overridden, so a class with an ``__eq__`` of its own could break
it or be seen by it. Here modules are told apart by identity and read from ``_modules`` and ``_parameters``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.parameter import is_lazy


def children(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the registered children of `module` with their names, in the order of registration."""
    registered = vars(module).get("_modules") or {}
    return [(name, child) for name, child in registered.items() if child is not None]


def parameter_counts(root: nn.Module) -> dict[int, int]:
    """Return for `root` and every module below the elements of its parameters, own and below, each counted once.

    Keys are ``id(module)``. Parameters that have no shape yet (lazy modules) count nothing. The cost grows with the
    number of modules and parameters, not with depth; what is reached by several ways costs once more per way up.
    """
    modules, ways = _survey(root)
    weights: dict[int, _Weight] = {}
    with _plain_sizes():
        for module in modules:
            weight = _Weight()
            for parameter in _parameters(module):
                weight.add(id(parameter), parameter.numel(), ways[id(parameter)])
            for _, child in children(module):
                below = weights.get(id(child))
                if below is None:
                    continue  # a child that holds its own ancestor
                weight.add(id(child), below.alone, ways[id(child)])
                weight.together.update(below.together)
            weights[id(module)] = weight
    return {key: weight.total() for key, weight in weights.items()}


class _Weight:
    """Elements below one module: those that nothing else reaches, and those that must not be counted twice."""

    __slots__ = ("alone", "together")

    def __init__(self) -> None:
        self.alone = 0
        self.together: dict[int, int] = {}  # id of a shared parameter or module -> elements

    def add(self, key: int, elements: int, ways: int) -> None:
        if ways > 1:
            self.together[key] = elements
        else:
            self.alone += elements

    def total(self) -> int:
        return self.alone + sum(self.together.values())


def _survey(root: nn.Module) -> tuple[list[nn.Module], dict[int, int]]:
    """Return all modules, each after those below it, and by how many ways a module or parameter is reached."""
    order: list[nn.Module] = []
    ways: dict[int, int] = {id(root): 1}
    stack: list[tuple[nn.Module, Iterator[tuple[str, nn.Module]]]] = [(root, iter(children(root)))]
    while stack:
        module, rest = stack[-1]
        for _, child in rest:
            ways[id(child)] = ways.get(id(child), 0) + 1
            if ways[id(child)] == 1:
                stack.append((child, iter(children(child))))
                break
        else:
            stack.pop()
            order.append(module)
            for parameter in _parameters(module):
                ways[id(parameter)] = ways.get(id(parameter), 0) + 1
    return order, ways


def _parameters(module: nn.Module) -> list[nn.Parameter]:
    registered = vars(module).get("_parameters") or {}
    return [
        parameter
        for parameter in registered.values()
        if parameter is not None and not is_lazy(parameter)
    ]


@contextmanager
def _plain_sizes() -> Iterator[None]:
    """Have sizes as plain integers, unseen by the program's torch function modes and by ``torch.jit.trace``."""
    tracing = torch._C._get_tracing_state()
    torch._C._set_tracing_state(None)  # type: ignore[attr-defined]
    try:
        with torch._C.DisableTorchFunction():
            yield
    finally:
        torch._C._set_tracing_state(tracing)  # type: ignore[attr-defined]
