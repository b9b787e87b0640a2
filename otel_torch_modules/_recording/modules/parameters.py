"""The parameters of a module, as torch keeps them: no method of the program's is called, and nothing of it hashed."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from otel_torch_modules._recording.modules.module_tree import own_parameters, registry


def modules_of(root: nn.Module) -> Iterator[nn.Module]:
    """Yield `root` and the modules below it, each once."""
    known: set[int] = set()
    waiting: list[nn.Module | None] = [root]
    while waiting:
        module = waiting.pop()
        if isinstance(module, nn.Module) and id(module) not in known:
            known.add(id(module))
            yield module
            waiting.extend(reversed(registry(module).values()))


def parameters_of(root: nn.Module) -> Iterator[nn.Parameter]:
    """Yield the parameters of `root` and of the modules below it."""
    for module in modules_of(root):
        yield from [one for one in own_parameters(module).values() if one is not None]
