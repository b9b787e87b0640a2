"""What a module's class computes is asked for no more often with tracing than without.

A `__getattr__`, a property or a metaclass may do and raise anything, and may have an answer to every name.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from otel_torch_modules import Config, semconv
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


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


def computed(name: str, error: BaseException | None) -> Any:
    """Return a property that tells that it is asked for `name`, and raises `error`, if any."""

    def get(self: object) -> Any:
        asked.append(name)
        if error is not None:
            raise error
        return type(self) if name == "__class__" else True

    return property(get, lambda self, _: None)


class ComputesMode(Plain):
    training = computed("training", None)


class RaisesMode(Plain):
    training = computed("training", RuntimeError("of the program"))


class LacksMode(Plain):
    training = computed("training", AttributeError("of the program"))


class ExitsMode(Plain):
    training = computed("training", SystemExit(3))


class ComputesClass(Plain):
    __class__ = computed("__class__", None)


class Watched(type):
    """The class of a class that tells what it is asked for."""

    def __getattribute__(cls, name: str) -> Any:
        asked.append(name)
        return super().__getattribute__(name)

    def __hash__(cls) -> int:
        asked.append("__hash__")
        return super().__hash__()


class WatchedClass(Plain, metaclass=Watched):
    pass


class ComputesAll(WatchedClass):
    training = computed("training", KeyError("of the program"))
    __class__ = computed("__class__", None)


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


COMPUTING = (ComputesMode, RaisesMode, LacksMode, ExitsMode, ComputesClass, WatchedClass)
CLASSES = (Answers, Refuses, ComputesAll)


def asked_by(loop: Callable[[nn.Module], Step], model: nn.Module) -> list[str]:
    run = loop(model)
    asked.clear()
    for _ in range(STEPS):
        run()
    return list(asked)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("loop", LOOPS)
def test_tracing_asks_for_nothing(
    loop: Callable[[nn.Module], Step], cls: type[nn.Module], config: Config
) -> None:
    expected = asked_by(loop, cls())
    with capture_spans(config=config) as captured:
        assert asked_by(loop, cls()) == expected
    assert captured.spans


@pytest.mark.parametrize("cls", COMPUTING)
@pytest.mark.parametrize("loop", [root, child, evaluation])
def test_it_is_recorded_all_the_same(
    loop: Callable[[nn.Module], Step], cls: type[nn.Module]
) -> None:
    run, plain = loop(cls()), loop(Plain())
    with capture_spans() as captured:
        run()
    with capture_spans() as expected:
        plain()
    name = type.__getattribute__(cls, "__name__")
    assert [span.name for span in captured.spans] == [
        span.name.replace("Plain", name) for span in expected.spans
    ]
    for span in captured.spans:
        if span.attributes.get(semconv.MODULE_CLASS) == name:
            assert (semconv.MODULE_TRAINING in span.attributes) == ("Mode" not in name)
