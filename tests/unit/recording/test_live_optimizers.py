"""Whether a module is trained is remembered for as long as the optimizers that are known hold what they held."""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.overrides import TorchFunctionMode

from otel_torch_modules._recording.loop import live_optimizers
from otel_torch_modules._recording.loop.live_optimizers import LiveOptimizers


def another_has_stepped(optimizers: LiveOptimizers, first: SGD, module: nn.Module) -> object:
    other = SGD(module.parameters())
    optimizers.stepped(other, None)
    return other


def a_group_is_added(optimizers: LiveOptimizers, first: SGD, module: nn.Module) -> object:
    return first.add_param_group({"params": list(module.parameters())})


def a_group_grows(optimizers: LiveOptimizers, first: SGD, module: nn.Module) -> object:
    return first.param_groups[0]["params"].extend(module.parameters())


@pytest.mark.parametrize("begins", [another_has_stepped, a_group_is_added, a_group_grows])
def test_a_module_that_is_trained_from_now_on(
    begins: Callable[[LiveOptimizers, SGD, nn.Module], object],
) -> None:
    trained, module = nn.Linear(1, 1), nn.Sequential(nn.Linear(1, 1))
    first = SGD(trained.parameters())
    optimizers = LiveOptimizers()
    assert [optimizers.train(each) for each in (trained, module, module)] == [True, False, False]
    kept = begins(optimizers, first, module)
    assert [optimizers.train(each) for each in (trained, module, module)] == [True, True, True]
    del kept


def test_a_module_whose_optimizer_is_gone_is_trained_no_more() -> None:
    module = nn.Linear(1, 1)
    optimizer = SGD(module.parameters())
    optimizers = LiveOptimizers()
    assert optimizers.train(module)
    del optimizer
    gc.collect()
    assert not optimizers.train(module)
    other = SGD(nn.Linear(1, 1).parameters())  # maybe where the first one was
    optimizers.stepped(other, None)
    assert not optimizers.train(module)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many were found each time that all objects were gone through."""
    found: list[int] = []
    find = live_optimizers._find

    def counted() -> list[Optimizer]:
        optimizers = find()
        found.append(len(optimizers))
        return optimizers

    monkeypatch.setattr(live_optimizers, "_find", counted)
    return found


def asks_who_holds(optimizers: LiveOptimizers, module: nn.Module) -> bool:
    return optimizers.held([module]) is not None


def asks_whether_one_may_step(optimizers: LiveOptimizers, module: nn.Module) -> bool:
    return optimizers.may_step([module])


@pytest.mark.parametrize("ask", [asks_who_holds, asks_whether_one_may_step])
@pytest.mark.parametrize("others", [0, 1])
def test_what_is_not_there_is_not_looked_for_each_time(
    ask: Callable[[LiveOptimizers, nn.Module], bool], others: int, looks: list[int]
) -> None:
    outer = [SGD(nn.Linear(1, 1).parameters()) for _ in range(others)]
    optimizers = LiveOptimizers()
    for _ in range(30):  # each a copy that an inner loop updates by hand
        assert not ask(optimizers, nn.Linear(1, 1))
    assert len(looks) <= 4
    del outer


@pytest.mark.parametrize("ask", [asks_who_holds, asks_whether_one_may_step])
def test_each_that_is_new_is_found(
    ask: Callable[[LiveOptimizers, nn.Module], bool], looks: list[int]
) -> None:
    optimizers = LiveOptimizers()
    kept = []
    for _ in range(10):
        module = nn.Linear(1, 1)
        kept.append(SGD(module.parameters()))
        assert ask(optimizers, module)
    assert len(looks) == 10


def test_no_optimizer_at_all_is_not_looked_for_each_time(looks: list[int]) -> None:
    gc.collect()
    optimizers = LiveOptimizers()
    assert not any(optimizers.live() for _ in range(30))
    assert len(looks) <= 3


class Asked(Tensor):
    """Writes down what is asked of it."""

    seen: ClassVar[list[object]] = []

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        cls.seen.append(func)
        return super().__torch_function__(func, types, args, kwargs or {})


class Asking(TorchFunctionMode):
    """Does the same of all tensors."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        Asked.seen.append(func)
        return func(*args, **kwargs or {})


@pytest.mark.parametrize("around", [nullcontext, Asking])
@pytest.mark.parametrize("kind", [Tensor, Asked])
@pytest.mark.parametrize("computed", [False, True])
def test_the_program_is_not_asked_about_its_parameters(
    around: Callable[[], AbstractContextManager[object]], kind: type[Tensor], computed: bool
) -> None:
    module = nn.Linear(1, 1)
    module.weight = nn.Parameter(torch.ones(1, 1).as_subclass(kind))
    if computed:
        weight = module.weight * 2
        del module.weight
        module._parameters["weight"] = weight  # type: ignore[assignment]  # as functional_call does
    with around():
        Asked.seen.clear()
        assert LiveOptimizers().held([module]) is (module if computed else None)
        assert Asked.seen == []
