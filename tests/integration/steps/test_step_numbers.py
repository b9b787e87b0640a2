"""The number that a program gives a step: what is none costs a line of log, and no step."""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import IntEnum
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from otel_torch_modules import Config, Schedule
from otel_torch_modules import step as manual_step
from otel_torch_modules.testing import capture_spans
from tests.support.small_training import Net, batch, train


class Number(IntEnum):
    SEVEN = 7


class Own:
    def __index__(self) -> int:
        return 7


class Raising:
    def __index__(self) -> int:
        raise ZeroDivisionError

    def __repr__(self) -> str:
        raise ZeroDivisionError


class OnDevice(Tensor):
    """Is on a device, and whoever asks for its value would have to wait."""

    asked: list[str]

    @staticmethod
    def __new__(cls) -> OnDevice:
        made: OnDevice = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, (), dtype=torch.int64, device="cuda"
        )
        made.asked = []
        return made

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # pragma: no cover
        args[0].asked.append(str(func))
        return 7


def numbers_of(given: Any, model: Net, sgd: torch.optim.SGD, config: Config | None = None) -> Any:
    """Return the numbers of steps that were sent, of three with what is `given` and one without."""
    with capture_spans(config=config or Config()) as captured:
        for _ in range(3):
            with manual_step(given):
                train(model, sgd)
        with manual_step():
            train(model, sgd)
    return [tree.attributes["torch.step"] for tree in captured.trees]


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.int64(7),
        lambda: np.uint8(7),
        lambda: np.array(7),
        lambda: torch.tensor(7),
        lambda: torch.tensor(7, dtype=torch.int16),
        lambda: nn.Parameter(torch.tensor(7), requires_grad=False),
        lambda: Number.SEVEN,
        Own,
    ],
)
def test_whatever_is_an_integer_is_one(
    model: Net, sgd: torch.optim.SGD, caplog: pytest.LogCaptureFixture, make: Callable[[], Any]
) -> None:
    assert numbers_of(make(), model, sgd) == [7, 7, 7, 8]
    assert caplog.messages == []


@pytest.mark.parametrize("number", [-(2**63), -1, 2**63 - 2])
def test_all_of_64_bits_can_be_sent(model: Net, sgd: torch.optim.SGD, number: int) -> None:
    assert numbers_of(number, model, sgd) == [*[number] * 3, number + 1]


def test_after_the_largest_they_are_counted_from_0(model: Net, sgd: torch.optim.SGD) -> None:
    assert numbers_of(2**63 - 1, model, sgd) == [*[2**63 - 1] * 3, 0]


@pytest.mark.parametrize(
    ("make", "shown"),
    [
        (lambda: True, "True"),
        (lambda: 3.5, "3.5"),
        (lambda: "epoch", "'epoch'"),
        (lambda: "x" * 100, f"'{'x' * 79}…"),
        (lambda: 2**63, "9223372036854775808"),
        (lambda: -(2**63) - 1, "-9223372036854775809"),
        (lambda: 10**5000, "an integer of 16610 bits"),
        (lambda: np.uint64(2**63), "what is of type uint64"),
        (lambda: np.True_, f"what is of type {type(np.True_).__name__}"),
        (lambda: torch.tensor(1.5), "a tensor of torch.float32 on cpu"),
        (lambda: torch.tensor(True), "a tensor of torch.bool on cpu"),
        (lambda: torch.arange(2), "a tensor of torch.int64 on cpu"),
        (lambda: torch.empty((), device="meta"), "a tensor of torch.float32 on meta"),
        (OnDevice, "a tensor of torch.int64 on cuda"),
        (object, "what is of type object"),
        (Raising, "what is of type Raising"),
    ],
)
def test_what_is_none_is_said_once_and_the_step_is_counted(
    model: Net,
    sgd: torch.optim.SGD,
    caplog: pytest.LogCaptureFixture,
    make: Callable[[], Any],
    shown: str,
) -> None:
    given = make()
    assert numbers_of(given, model, sgd) == [0, 1, 2, 3]
    assert [(line.levelno, line.getMessage()) for line in caplog.records] == [
        (
            logging.WARNING,
            f"step: {shown} is not allowed; it must be an integer of 64 bits, which may be NumPy's or in a tensor on "
            "the CPU (one on a device would have to be waited for), or None: such steps are counted",
        )
    ]
    assert caplog.records[0].exc_text is None
    assert not getattr(given, "asked", [])


def test_what_a_signal_handler_raises_there_is_the_programs(
    model: Net, sgd: torch.optim.SGD
) -> None:
    class Interrupted:
        def __index__(self) -> int:
            raise KeyboardInterrupt

    with capture_spans():
        with pytest.raises(KeyboardInterrupt):
            manual_step(Interrupted()).__enter__()
        with manual_step(3):
            train(model, sgd)


@pytest.mark.parametrize(
    ("schedule", "recorded"),
    [
        (Schedule(), [-3, -2, -1, 0, 1, 2, 3]),
        (Schedule(skip_first=2), [2, 3]),
        (Schedule(wait=1, active=1), [-3, -1, 1, 3]),
        (Schedule(wait=1, active=1, repeat=1), [-3, -1, 1]),
    ],
)
def test_numbers_below_0_are_in_the_schedule_as_others_are(
    model: Net, sgd: torch.optim.SGD, schedule: Schedule, recorded: list[int]
) -> None:
    with capture_spans(config=Config(schedule=schedule)) as captured:
        for index in range(-3, 4):
            with manual_step(index):
                train(model, sgd)
    assert [tree.attributes["torch.step"] for tree in captured.trees] == recorded


def test_an_evaluation_after_one_of_these_says_which(model: Net, sgd: torch.optim.SGD) -> None:
    with capture_spans() as captured:
        for index in (-3, -1):
            with manual_step(index):
                train(model, sgd)
            with torch.no_grad():
                model(batch())
    assert [tree.attributes["torch.step"] for tree in captured.trees] == [-3, -3, -1, -1]
