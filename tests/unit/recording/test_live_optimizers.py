"""Whether a module is trained is remembered for as long as the optimizers that are known hold what they held."""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.overrides import TorchFunctionMode

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
