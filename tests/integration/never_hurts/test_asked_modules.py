"""A module that has a `__getattr__` of its own is asked by it no more often with tracing than without.

Such a method may do anything, and may have an answer to every name.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from otel_torch_modules import Config
from otel_torch_modules.testing import capture_spans

BATCH = torch.ones(2, 4)
STEPS = 3

asked: list[str] = []


class Answers(nn.Module):
    """Has something for every name."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def __getattr__(self, name: str) -> Any:
        asked.append(name)
        try:
            return super().__getattr__(name)
        except AttributeError:
            return self

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


class Refuses(Answers):
    """Raises what nobody expects of a missing name."""

    def __getattr__(self, name: str) -> Any:
        asked.append(name)
        try:
            return nn.Module.__getattr__(self, name)
        except AttributeError:
            raise KeyError(name) from None


Step = Callable[[], None]


def root(model: nn.Module) -> Step:
    return lambda: model(BATCH).sum().backward()


def child(model: nn.Module) -> Step:
    return root(nn.Sequential(nn.Linear(4, 4), model))


def holder(model: nn.Module) -> Step:
    def run() -> None:
        model.inner = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        model(BATCH).sum().backward()

    return run


def wrapped(model: nn.Module) -> Step:
    return root(nn.DataParallel(model))


def evaluation(model: nn.Module) -> Step:
    def run() -> None:
        with torch.no_grad():
            model(BATCH)

    return run


def another_thread_while_a_step_is_open(model: nn.Module) -> Step:
    trained = nn.Linear(4, 4)

    def run() -> None:
        loss = trained(BATCH).sum()
        thread = threading.Thread(target=evaluation(model))
        thread.start()
        thread.join()
        loss.backward()

    return run


LOOPS = (root, child, holder, wrapped, evaluation, another_thread_while_a_step_is_open)
CONFIGS = {
    "": Config(),
    "phases": Config(detail_ranks="1"),  # this process is rank 0
    "shapes": Config(record_shapes=True),
}


def asked_by(loop: Callable[[nn.Module], Step], model: nn.Module) -> list[str]:
    run = loop(model)
    asked.clear()
    for _ in range(STEPS):
        run()
    return list(asked)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("cls", [Answers, Refuses])
@pytest.mark.parametrize("loop", LOOPS)
def test_tracing_asks_for_nothing(
    loop: Callable[[nn.Module], Step], cls: type[Answers], config: Config
) -> None:
    expected = asked_by(loop, cls())
    with capture_spans(config=config) as captured:
        assert asked_by(loop, cls()) == expected
    assert captured.spans
