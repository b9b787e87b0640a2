"""A module that is new is named at the same cost however large the model is and however many came before it.

Counted are lines of ours that run, and what is walked of registries and of what is known of modules, so that loops of
Python's and of C's count.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from types import FrameType
from typing import Any

import pytest
from torch import nn

import otel_torch_modules
from otel_torch_modules._recording.modules.fqn import ModuleSites

OURS = str(Path(otel_torch_modules.__file__).parent)
FEW, MANY, WIDE = 100, 400, 1_000
COUNTED = 7  # modules


class Walked(dict[Any, Any]):
    """A dictionary that counts what is walked of it."""

    entries = 0

    def keys(self) -> Any:
        return _Counting(super().keys())

    def values(self) -> Any:
        return _Counting(super().values())

    def items(self) -> Any:
        return _Counting(super().items())

    def __iter__(self) -> Iterator[Any]:
        return iter(_Counting(super().keys()))

    def __reversed__(self) -> Iterator[Any]:
        return reversed(_Counting(super().keys()))


class _Counting:
    def __init__(self, view: Any) -> None:
        self._view = view

    def __iter__(self) -> Iterator[Any]:
        return self._count(iter(self._view))

    def __reversed__(self) -> Iterator[Any]:
        return self._count(reversed(self._view))

    def _count(self, walked: Iterator[Any]) -> Iterator[Any]:
        for each in walked:
            Walked.entries += 1
            yield each


def walked(module: nn.Module) -> Any:
    """Return `module`, whose registry counts from now on."""
    vars(module)["_modules"] = Walked(module._modules)
    return module


class Model(nn.Module):
    """Holds many modules as its own, as many more in a list, and in lists of a list."""

    def __init__(self, idle: int) -> None:
        super().__init__()
        walked(self)
        for number in range(idle):
            setattr(self, f"own_{number}", nn.Identity())
        self.blocks = walked(nn.ModuleList(nn.Sequential(nn.Identity()) for _ in range(idle)))
        self.layers = walked(nn.ModuleList(walked(nn.ModuleList(blocks())) for _ in range(3)))
        self.pool = walked(nn.ModuleDict({str(number): nn.Linear(1, 1) for number in range(8)}))
        self.adapters = walked(nn.ModuleDict())


def blocks() -> list[nn.Module]:
    return [block(), block()]


def block() -> nn.Module:
    return nn.Sequential(nn.Linear(1, 1), nn.ReLU())


def appended(model: Any, number: int) -> tuple[nn.Module, str]:
    model.blocks.append(module := block())
    return module, f"Model.blocks.{len(model.blocks) - 1}"


def two_appended(model: Any, number: int) -> tuple[nn.Module, str]:
    model.blocks.extend([block(), module := block()])
    return module, f"Model.blocks.{len(model.blocks) - 1}"


def appended_in_a_list_of_lists(model: Any, number: int) -> tuple[nn.Module, str]:
    model.layers[1].append(module := block())
    return module, f"Model.layers.1.{len(model.layers[1]) - 1}"


def added_by_name(model: Any, number: int) -> tuple[nn.Module, str]:
    model.adapters[f"of_{number}"] = module = nn.Linear(1, 1)
    return module, f"Model.adapters.of_{number}"


def set_on_the_model(model: Any, number: int) -> tuple[nn.Module, str]:
    setattr(model, f"late_{number}", module := nn.Linear(1, 1))
    return module, f"Model.late_{number}"


def set_in_a_new_list(model: Any, number: int) -> tuple[nn.Module, str]:
    setattr(model, f"late_{number}", walked(nn.ModuleList([module := block()])))
    return module, f"Model.late_{number}.0"


def replaced(model: Any, number: int) -> tuple[nn.Module, str]:
    model.last = module = nn.Linear(1, 1)
    return module, "Model.last"


def oldest_of_a_pool_replaced(model: Any, number: int) -> tuple[nn.Module, str]:
    del model.pool[next(iter(model.pool))]
    model.pool[f"of_{number}"] = module = nn.Linear(1, 1)
    return module, f"Model.pool.of_{number}"


def held_by_nobody(model: Any, number: int) -> tuple[nn.Module, str]:
    return nn.ReLU(), "ReLU"


def held_by_nobody_with_parameters(model: Any, number: int) -> tuple[nn.Module, str]:
    return block(), "Sequential"


def held_elsewhere(model: Any, number: int) -> tuple[nn.Module, str]:
    vars(model).setdefault("kept", []).append(module := block())
    return module, "Sequential"


BELOW_A_CALLER = [
    appended,
    two_appended,
    appended_in_a_list_of_lists,
    added_by_name,
    set_on_the_model,
    set_in_a_new_list,
    replaced,
    oldest_of_a_pool_replaced,
    held_by_nobody,
    held_by_nobody_with_parameters,
    held_elsewhere,
]


def cost(ask: Callable[[], object]) -> int:
    """Return how many lines of ours run and how many entries are walked while `ask` does."""
    lines = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal lines
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        lines += event == "line"
        return trace

    Walked.entries = 0
    before = sys.gettrace()  # who measures branches goes on afterwards
    sys.settrace(trace)
    try:
        ask()
    finally:
        sys.settrace(before)
    return lines + Walked.entries


def made() -> ModuleSites:
    """Return sites for which time stands still but for looks at it: what is looked for now and then was, just now."""
    return ModuleSites(lambda fqn, class_name: True, iter(range(1 << 62)).__next__)


@pytest.mark.parametrize("come", BELOW_A_CALLER)
def test_below_a_caller(come: Callable[[Any, int], tuple[nn.Module, str]]) -> None:
    def costs(size: int) -> float:
        sites, model = made(), Model(size)
        root = sites.open(model)
        caller, root.sites = root.site, Walked(root.sites)
        found = []
        for number in range(size + COUNTED):
            module, name = come(model, number)
            ask = partial(sites.add, module, caller)
            if number < size:
                sites.by_id.get(id(module)) or ask()
            else:
                found.append(cost(ask))
                assert sites.by_id[id(module)].fqn == name
        return median(found)

    assert costs(MANY) <= costs(FEW) * 1.1


class Lit(nn.Module):
    """Calls its loss from a method, as Lightning's modules do."""

    def training_step(self, ask: Callable[[nn.Module], object]) -> None:
        self.loss = nn.MSELoss()
        ask(self.loss)


def kept(module: nn.Module, modules: list[nn.Module]) -> nn.Module:
    modules.append(module)
    return module


ROOTS: dict[str, Callable[[list[nn.Module]], nn.Module]] = {
    "bare, and dropped": lambda modules: nn.MSELoss(),
    "bare, and kept": lambda modules: kept(nn.MSELoss(), modules),
    "with parameters, and dropped": lambda modules: block(),
    "with parameters, and kept": lambda modules: kept(block(), modules),
}


@pytest.mark.parametrize("make", ROOTS.values(), ids=ROOTS)
def test_of_roots(make: Callable[[list[nn.Module]], nn.Module]) -> None:
    def costs(size: int) -> float:
        sites, modules = made(), list[nn.Module]()
        for _ in range(size):
            sites.open(make(modules))
        return median(cost(lambda: sites.open(make(modules))) for _ in range(COUNTED))

    assert costs(MANY) <= costs(FEW) * 1.1


def test_of_a_loss_that_a_method_makes() -> None:
    def costs(size: int) -> float:
        sites, model, found = made(), Lit(), list[int]()
        for number in range(size):
            setattr(model, f"own_{number}", nn.Identity())
        sites.open(walked(model))
        for _ in range(COUNTED):
            model.training_step(lambda loss: found.append(cost(lambda: sites.open(loss))))
        return median(found)

    assert costs(MANY) <= costs(FEW) * 1.1


@pytest.mark.parametrize("come", [appended, added_by_name, set_on_the_model, held_elsewhere])
def test_a_wide_model_is_looked_at_as_rarely_as_a_deep_one(
    come: Callable[[Any, int], tuple[nn.Module, str]],
) -> None:
    sites, model = made(), nn.Module() if come is held_elsewhere else Model(FEW)
    caller = sites.open(model).site
    modules = [come(model, number)[0] for number in range(WIDE)]
    for module in modules:
        sites.add(module, caller)
    for _ in range(3):
        sites.open(model)
    looks = [cost(lambda: sites.open(model)) for _ in range(100)]
    assert sum(looks) < 100 * len(modules) / 20
