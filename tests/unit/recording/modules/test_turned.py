"""What a site says of a module follows where the module stays and becomes another: what stood there at its first call
would be said for the whole run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from otel_torch_modules._recording.modules.fqn import ModuleSites
from otel_torch_modules._site import Site

Told = list[tuple[str, str, int, str, int]]


class Other(nn.Linear):
    pass


class Lit(nn.Module):
    """Calls what it holds from a method, as Lightning's modules do."""

    def training_step(self, sites: ModuleSites, module: nn.Module) -> None:
        sites.open(module)


def made() -> ModuleSites:
    """Return sites for which time stands still: it is always time to look."""
    return ModuleSites(lambda fqn, class_name: True, lambda: 0)


def told(site: Site) -> tuple[str, str, int, str, int]:
    return (
        site.fqn,
        site.class_name,
        site.parameters,
        site.function_name,
        site.compiled_modules,
    )


def told_of(sites: ModuleSites, model: nn.Module) -> Told:
    return sorted(told(site) for site in sites.open(model).sites.values())


def materialized(model: nn.Module) -> None:
    with torch.no_grad():
        model(torch.ones(2, 3, 8, 8))


def becomes_another(model: nn.Module) -> None:
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = Other


def in_linears(change: Callable[[nn.Linear], object]) -> Callable[[nn.Module], None]:
    def run(model: nn.Module) -> None:
        for module in [*model.modules()]:
            if isinstance(module, nn.Linear):
                change(module)

    return run


def eager() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 4)))


def lazy() -> nn.Module:
    return nn.Sequential(
        nn.LazyConv2d(8, 3),
        nn.LazyBatchNorm2d(),
        nn.LazyBatchNorm2d(affine=False),
        nn.Flatten(),
        nn.Sequential(nn.LazyLinear(10), nn.ReLU()),
    )


TURNS: dict[str, tuple[Callable[[], nn.Module], Callable[[Any], object]]] = {
    "lazy ones have their parameters": (lazy, materialized),
    "their classes are changed": (eager, becomes_another),
    "weights are normalised by a hook": (eager, in_linears(torch.nn.utils.weight_norm)),
    "weights are parametrized": (eager, in_linears(parametrizations.weight_norm)),
    "a parameter is added": (
        eager,
        in_linears(lambda linear: linear.register_parameter("more", nn.Parameter(torch.ones(7)))),
    ),
    "they are compiled in place": (eager, in_linears(lambda linear: linear.compile())),
}


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
@pytest.mark.parametrize(("make", "turn"), TURNS.values(), ids=TURNS)
def test_what_is_told_is_what_a_first_call_would_tell(
    make: Callable[[], nn.Module], turn: Callable[[nn.Module], object]
) -> None:
    model = make()
    sites = made()
    before = told_of(sites, model)
    turn(model)
    after = told_of(sites, model)
    assert after != before
    assert after == told_of(made(), model)
    found = dict(sites.open(model).sites)
    assert sites.open(model).sites == found  # what is told alike is the same


ROOTS: dict[str, tuple[Callable[[], nn.Module], Callable[[Any], object]]] = {
    "a lazy one": (lambda: nn.LazyLinear(3), lambda root: root(torch.ones(2, 2))),
    "a leaf": (lambda: nn.Linear(2, 2), becomes_another),
    "a parametrized leaf": (
        lambda: nn.Linear(2, 2),
        lambda root: setattr(root, "__class__", Other),
    ),
    "one without parameters": (nn.ReLU, lambda root: setattr(root, "__class__", nn.Tanh)),
    "one with others below": (
        lambda: nn.Sequential(nn.ReLU()),
        lambda root: setattr(root, "__class__", type("Chain", (nn.Sequential,), {})),
    ),
}


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize(("make", "turn"), ROOTS.values(), ids=ROOTS)
def test_names_follow_the_class_of_the_root(
    make: Callable[[], nn.Module], turn: Callable[[nn.Module], object], held: bool
) -> None:
    root, holder, sites = make(), Lit(), made()
    call = sites.open
    if held:
        holder.held = root

        def call(module: nn.Module) -> Any:
            holder.training_step(sites, module)

    call(root)
    turn(root)
    call(root)
    name = type(root).__name__
    site = sites.root(root)
    assert (site.fqn, site.class_name) == ("Lit.held" if held else name, name)
    assert {each.fqn.partition(".")[0] for each in sites.by_id.values()} == {
        "Lit" if held else name
    }


def test_a_number_of_the_old_class_is_free_again() -> None:
    sites, first, second = made(), nn.Linear(2, 2), nn.Linear(2, 2)
    assert [sites.root(each).fqn for each in (first, second)] == ["Linear", "Linear_1"]
    first.__class__ = Other
    assert [sites.root(each).fqn for each in (first, second)] == ["Other", "Linear_1"]
    assert sites.root(nn.Linear(2, 2)).fqn == "Linear"


def test_what_stands_in_for_one_that_became_another_has_its_own_name() -> None:
    sites, loss = made(), nn.MSELoss()
    assert sites.root(loss).fqn == "MSELoss"
    loss.__class__ = nn.L1Loss
    assert sites.root(loss).fqn == "L1Loss"
    del loss
    assert sites.root(nn.MSELoss()).fqn == "MSELoss"
    assert sites.root(nn.L1Loss()).fqn == "L1Loss"


def test_a_lazy_one_that_is_not_called_costs_no_walk() -> None:
    sites, model = made(), lazy()
    root = sites.open(model)
    walked = root.sites
    for _ in range(3):
        assert sites.open(model).sites is walked


def test_a_large_model_is_looked_through_a_little_at_a_time() -> None:
    time = [0]

    def clock() -> int:
        time[0] += 1
        return time[0]

    sites = ModuleSites(lambda fqn, class_name: True, clock)
    model = nn.Sequential(*(nn.Linear(1, 1) for _ in range(1_000)))
    sites.open(model)
    model[-1].__class__ = Other
    for _ in range(1_000):
        time[0] += 1_000
        sites.open(model)
        if sites.by_id[id(model[-1])].class_name == "Other":
            break
    assert sites.by_id[id(model[-1])].class_name == "Other"


def test_a_large_model_that_becomes_another_again_and_again_is_seldom_walked_through() -> None:
    time = [0]

    class One(nn.Module):
        def __getattribute__(self, name: str) -> object:
            if name == "__dict__":
                time[0] += 10
            return super().__getattribute__(name)

    sites = ModuleSites(lambda fqn, class_name: True, lambda: time[0])
    model = nn.Sequential(*(One() for _ in range(1_000)))
    found = [sites.open(model).sites]
    took = 0
    for step in range(200):
        another = type("Another", (One,), {})
        for module in model:
            module.__class__ = another
        time[0] = began = (step + 1) * 1_000_000
        found.append(sites.open(model).sites)
        took += time[0] - began
    walks = [this for this, before in zip(found[1:], found, strict=False) if this is not before]
    assert 3 <= len(walks) <= 20
    assert took < 0.01 * time[0]
