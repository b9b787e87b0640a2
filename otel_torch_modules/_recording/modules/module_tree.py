"""The tree of modules below a root, as the registries say, without running any code of the modules themselves.

``named_children`` puts modules into a set and may be overridden, so a class with an ``__eq__`` of its own could break
it or be seen by it. Here modules are told apart by identity and read from ``_modules`` and ``_parameters``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from otel_torch_modules._recording.torch_private.tensors import plain_sizes

# How many modules are looked at for the one that a module of the program has just called.
_NEAR = 64

LISTS = (nn.ModuleList, nn.ModuleDict)  # never called


def registry(module: nn.Module) -> dict[str, nn.Module | None]:
    """Return the children of `module` by their names; nothing for one that keeps them elsewhere than in Python."""
    registered = vars(module).get("_modules")
    return registered if isinstance(registered, dict) else {}


def children(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the registered children of `module` with their names, in the order of registration."""
    registered = vars(module).get("_modules") or {}
    return [each for each in registered.items() if isinstance(each[1], nn.Module)]


def own_parameters(module: nn.Module) -> dict[str, nn.Parameter | None]:
    """Return the parameters of `module` itself by their names."""
    return vars(module).get("_parameters") or {}


def is_bare(module: nn.Module) -> bool:
    """Return whether `module` has neither children nor parameters, as activations and criteria have not."""
    inside = vars(module)
    return not inside.get("_modules") and not inside.get("_parameters")


def is_to_be_made(module: nn.Module) -> bool:
    """Return whether `module`, a lazy one, has parameters that its first call makes."""
    return any(is_lazy(one) for one in own_parameters(module).values() if one is not None)


def way_to(module: nn.Module, holder: nn.Module) -> list[tuple[nn.Module, str]] | None:
    """Return by which names `module` is reached from `holder`, each with the module that it is registered in.

    Looked at are the nearest modules, of the children of one the newest first: None may mean that it is far.
    """
    left = _NEAR
    ways: deque[tuple[nn.Module, list[tuple[nn.Module, str]]]] = deque([(holder, [])])
    while ways and left > 0:
        parent, way = ways.popleft()
        for name, child in islice(reversed(registry(parent).items()), left):
            left -= 1
            if child is module:
                return [*way, (parent, name)]
            if isinstance(child, nn.Module) and registry(child):
                ways.append((child, [*way, (parent, name)]))
    return None


def parameter_counts(root: nn.Module) -> dict[int, int]:
    """Return for `root` and every module below the elements of its parameters, own and below, each counted once.

    Keys are ``id(module)``. Parameters that have no shape yet (lazy modules) count nothing. The cost grows with the
    number of modules and parameters, not with depth; what is reached by several ways costs once more per way up.
    """
    if not children(root):
        return {id(root): _count_own(root)}
    modules, ways = _survey(root)
    alone: dict[int, int] = {}  # what is reached by one way only
    together: dict[
        int, dict[int, int]
    ] = {}  # by the id of a shared parameter or module: counted once
    with plain_sizes():
        for module in modules:
            total = 0
            shared: dict[int, int] = {}
            for parameter in _parameters(module):
                if ways[id(parameter)] > 1:
                    shared[id(parameter)] = parameter.numel()
                else:
                    total += parameter.numel()
            for _, child in children(module):
                below = alone.get(id(child))
                if below is None:
                    continue  # a child that holds its own ancestor
                if ways[id(child)] > 1:
                    shared[id(child)] = below
                else:
                    total += below
                shared.update(together.get(id(child), {}))
            alone[id(module)] = total
            if shared:
                together[id(module)] = shared
    return {key: total + sum(together.get(key, {}).values()) for key, total in alone.items()}


def module_count(root: nn.Module) -> int:
    """Return how many modules `root` and all below it are, without the lists, which are never called."""
    modules, _ = _survey(root)
    return sum(not issubclass(type(module), LISTS) for module in modules)


def _count_own(module: nn.Module) -> int:
    own = {id(parameter): parameter for parameter in _parameters(module)}.values()
    if not own:
        return 0
    with plain_sizes():
        return sum([parameter.numel() for parameter in own])


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
    return [
        parameter
        for parameter in own_parameters(module).values()
        if isinstance(parameter, Tensor) and not is_lazy(parameter)
    ]
