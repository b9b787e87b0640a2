"""Calibration measures something, and neither sees nor shows itself to what the program has switched on."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from torch import nn
from torch.func import grad
from torch.nn.modules import module as torch_module
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from otel_torch_modules._recording.cost.calibration import CallCost, calibrate


class SeenFunctions(TorchFunctionMode):
    """Takes note of the functions of torch that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[object] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.seen.append(func)
        return func(*args, **(kwargs or {}))


class SeenOperations(TorchDispatchMode):
    """Takes note of the operations that are run."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[object] = []

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.seen.append(func)
        return func(*args, **(kwargs or {}))


def positive(cost: CallCost) -> bool:
    return cost.event > 0 and cost.root > 0 and cost.left_out >= 0


@pytest.mark.parametrize("backward", [True, False])
def test_a_call_costs_something(backward: bool) -> None:
    assert positive(calibrate(backward))


def test_hooks_of_the_program_do_not_run() -> None:
    seen: list[object] = []

    def hook(*arguments: object) -> None:
        seen.append(arguments)

    call = nn.Module.__call__
    try:
        nn.Module.__call__ = lambda *arguments: seen.append(arguments)  # type: ignore[method-assign, assignment]
        handles: Iterable[Any] = (
            torch_module.register_module_forward_pre_hook(hook),
            torch_module.register_module_forward_hook(hook),
            torch_module.register_module_full_backward_hook(hook),
            torch_module.register_module_module_registration_hook(hook),
            torch_module.register_module_parameter_registration_hook(hook),
            torch_module.register_module_buffer_registration_hook(hook),
        )
        assert positive(calibrate(backward=True))
    finally:
        nn.Module.__call__ = call  # type: ignore[method-assign]
        for handle in handles:
            handle.remove()
    assert seen == []


def test_modes_of_the_program_see_nothing_and_change_nothing() -> None:
    functions, operations = SeenFunctions(), SeenOperations()
    saved: list[object] = []
    with ExitStack() as stack:
        for context in (
            torch.inference_mode(),
            torch.autocast("cpu", dtype=torch.bfloat16),
            torch.device("meta"),
            torch.autograd.graph.saved_tensors_hooks(saved.append, saved.append),
            functions,
            operations,
        ):
            stack.enter_context(context)  # type: ignore[arg-type]
        functions.seen.clear()
        operations.seen.clear()
        assert positive(calibrate(backward=True))
        assert (functions.seen, operations.seen, saved) == ([], [], [])
        assert torch.is_inference_mode_enabled()
        assert torch.is_autocast_enabled("cpu")
        assert torch.empty(0).is_meta


def test_it_works_inside_a_function_transform() -> None:
    costs = []

    def function(x: torch.Tensor) -> torch.Tensor:
        costs.append(calibrate(backward=True))
        return x.square().sum()

    assert torch.equal(grad(function)(torch.ones(2)), torch.full((2,), 2.0))
    assert all(map(positive, costs))
    assert len(costs) == 1


def test_random_numbers_sequence_numbers_and_the_default_type_are_left_alone() -> None:
    def state() -> tuple[object, ...]:
        return (
            random.getstate(),
            torch.get_rng_state().tolist(),
            torch.autograd._get_sequence_nr(),  # type: ignore[attr-defined]
            torch.is_grad_enabled(),
            torch.get_default_dtype(),
        )

    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            before = state()
            assert positive(calibrate(backward=True))
            assert state() == before
    finally:
        torch.set_default_dtype(torch.float32)
