"""No tensor of the program's is held, not even weakly: torch counts who holds one before it exchanges what is in it.

``torch.utils.swap_tensors`` refuses a tensor that has a weak reference or one reference more than it knows of. Modules
call it where the program has asked for that, and for parameters of subclasses.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

from otel_torch_modules import Config
from otel_torch_modules.testing import capture_spans

Held = list[tuple[int, int]]
Loop = Callable[["Shared"], list[Held]]


class Head(nn.Module):
    """Is given its weight."""

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        return x @ weight


class Shared(nn.Module):
    """Hands a parameter of its own to another module."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.weight = nn.Parameter(torch.ones(4, 4))
        self.head = Head()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.fc(x).relu(), self.weight)


def held(model: nn.Module, *others: Tensor) -> Held:
    """Return of each tensor how many weak references and how many owners it has."""
    parameters = list(model.parameters())
    gradients = [one.grad for one in parameters if one.grad is not None]
    return [
        (weakref.getweakrefcount(one), one._use_count())  # type: ignore[attr-defined]
        for one in (*parameters, *gradients, *others)
    ]


def plain(model: Shared) -> list[Held]:
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    found = []
    for _ in range(3):
        inputs = torch.ones(2, 4)
        output = model(inputs)
        found.append(held(model, inputs, output))
        output.sum().backward()
        found.append(held(model, inputs, output))
        del output
        sgd.step()
        found.append(held(model, inputs))
        sgd.zero_grad()
        found.append(held(model, inputs))
    return found


def evaluated(model: Shared) -> list[Held]:
    found = plain(model)
    with torch.no_grad():
        output = model(torch.ones(2, 4))
    return [*found, held(model, output)]


def accumulated(model: Shared) -> list[Held]:
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    found = []
    for _ in range(3):
        for _ in range(2):
            model(torch.ones(2, 4)).sum().backward()
            found.append(held(model))
        sgd.step()
        sgd.zero_grad()
        found.append(held(model))
    return found


def clipped_and_scaled(model: Shared) -> list[Held]:
    adam = torch.optim.Adam(model.parameters())
    scaler = torch.amp.GradScaler("cpu")
    found = []
    for _ in range(3):
        scaler.scale(model(torch.ones(2, 4)).sum()).backward()
        scaler.unscale_(adam)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(adam)
        scaler.update()
        found.append(held(model))
        adam.zero_grad()
    return found


def climbed(model: Shared) -> list[Held]:
    """Sharpness-aware: two backward passes a step."""
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    found = []
    for _ in range(3):
        model(torch.ones(2, 4)).sum().backward()
        with torch.no_grad():
            for one in model.parameters():
                one.add_(0.1)
        sgd.zero_grad()
        model(torch.ones(2, 4)).sum().backward()
        with torch.no_grad():
            for one in model.parameters():
                one.sub_(0.1)
        sgd.step()
        found.append(held(model))
    return found


def updated_by_hand(model: Shared) -> list[Held]:
    found = []
    for _ in range(4):
        model(torch.ones(2, 4)).sum().backward()
        with torch.no_grad():
            for one in model.parameters():
                one.sub_(one)
        model.zero_grad()
        found.append(held(model))
    return found


def compiled_optimizer(model: Shared) -> list[Held]:
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    step = torch.compile(sgd.step, backend="eager")
    found = []
    for _ in range(3):
        model(torch.ones(2, 4)).sum().backward()
        step()
        sgd.zero_grad()
        found.append(held(model))
    return found


LOOPS = [
    plain,
    evaluated,
    accumulated,
    clipped_and_scaled,
    climbed,
    updated_by_hand,
    compiled_optimizer,
]


@pytest.fixture(autouse=True)
def compiled_anew() -> Iterator[None]:
    """Let what other tests compiled, and what is compiled here, hold nothing."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def swapping() -> Iterator[None]:
    """Have modules exchange what is in their parameters."""
    torch.__future__.set_swap_module_params_on_conversion(True)
    yield
    torch.__future__.set_swap_module_params_on_conversion(False)


@pytest.mark.parametrize("detail", ["all", "1"], ids=["modules", "phases only"])
@pytest.mark.parametrize("loop", LOOPS)
def test_tensors_are_held_as_often_as_untraced(loop: Loop, detail: str) -> None:
    untraced = loop(Shared())
    torch._dynamo.reset()
    with capture_spans(Config(detail_ranks=detail)):
        traced = loop(Shared())
    assert traced == untraced


def converted(model: nn.Module) -> None:
    model.double()


def loaded(model: nn.Module) -> None:
    model.load_state_dict({name: one.clone() for name, one in model.state_dict().items()})


def emptied(model: nn.Module) -> None:
    model.to_empty(device="cpu")


@pytest.mark.usefixtures("swapping")
@pytest.mark.parametrize("change", [converted, loaded, emptied])
@pytest.mark.parametrize("loop", LOOPS[:-1])  # Dynamo's own guards hold them
def test_parameters_can_be_swapped(loop: Loop, change: Callable[[nn.Module], None]) -> None:
    for tracing in (nullcontext, capture_spans):
        with tracing():
            model = Shared()
            loop(model)
            change(model)
