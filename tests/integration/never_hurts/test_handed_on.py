"""What modules hand on to each other is looked at once: a tensor, in however many places of a call, by each call; what
holds no tensor, by each module. And however often a tensor is handed on, its node has one mark.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.recorded import recording_into
from otel_torch_modules._events import MARK, WIDTH
from otel_torch_modules._recording import contents, marks
from otel_torch_modules._records import Record

MODULES = 13
STEPS = 3

Given = tuple[tuple[Any, ...], dict[str, Any]]


class HandsOn(nn.Module):
    """Gives what it is given, and has something to mark."""

    def forward(self, *args: Any, **named: Any) -> Given:
        return (args[0] + 1, *args[1:]), named


class Chain(nn.Module):
    """Modules that hand on to each other what the first is given."""

    def __init__(self, give: Callable[[Tensor], Given]) -> None:
        super().__init__()
        self.give = give
        self.inp = nn.Linear(2, 2)
        self.parts = nn.ModuleList(HandsOn() for _ in range(MODULES))

    def forward(self, x: Tensor) -> Tensor:
        y = self.inp(x)
        args, named = self.give(y)
        args = (x * 2, *args)
        for part in self.parts:
            args, named = part(*args, **named)
        return args[0].sum() + y.sum()


def ring(y: Tensor) -> list[Any]:
    held: list[Any] = [y]
    held.append(held)
    return held


SEVERAL: dict[str, Callable[[Tensor], Given]] = {
    "arguments": lambda y: ((y, y, y), {}),
    "an argument and a list": lambda y: ((y, [y, y]), {}),
    "a dictionary": lambda y: (({"a": y, "b": [y, (y,)]},), {}),
    "two dictionaries": lambda y: (({"a": y}, {"a": y}), {}),
    "an argument and a name": lambda y: ((y,), {"mask": y}),
    "names": lambda y: ((), {"mask": {"a": y}, "bias": [y]}),
    "a list that holds itself": lambda y: ((ring(y),), {}),
}
"""Name -> gives the same tensor in several places of one call."""


def record(model: Chain) -> list[Record]:
    records: list[Record] = []
    with recording_into(records.append) as steps:
        for _ in range(STEPS):
            with steps.step(None):
                model(torch.ones(2, 2, requires_grad=True)).backward()
    assert len(records) == STEPS
    return records


@pytest.mark.parametrize("give", SEVERAL.values(), ids=SEVERAL)
def test_a_tensor_in_several_places_is_looked_at_once_by_a_call_and_marked_once(
    monkeypatch: pytest.MonkeyPatch, give: Callable[[Tensor], Given]
) -> None:
    asked: Counter[int] = Counter()
    node = marks._grad_fn

    def count(tensor: Tensor) -> Any:
        asked[id(tensor)] += 1
        return node(tensor)

    handed: list[Tensor] = []

    def begin(y: Tensor) -> Given:
        handed.append(y)
        asked[id(y)] = 0  # what was there before is gone
        return give(y)

    monkeypatch.setattr(marks, "_grad_fn", count)
    for done in record(Chain(begin)):
        tags = done.log[::WIDTH]
        marked = Counter(
            number for tag, number in zip(tags, done.log[2::WIDTH], strict=True) if tag is MARK
        )
        assert len(marked) > MODULES
        assert set(marked.values()) == {1}
    assert [asked[id(y)] for y in handed] == STEPS * [2 * MODULES]  # on the way in and out


@pytest.mark.parametrize(
    "held",
    [{"a": 1}, {"ids": [*range(100)]}, ["text"] * 100, ("text", {"a": 1.0}), object()],
    ids=["dictionary", "list in a dictionary", "texts", "tuple", "object"],
)
@pytest.mark.parametrize("by_name", [False, True])
def test_what_holds_no_tensor_is_looked_into_once_by_each_module(
    monkeypatch: pytest.MonkeyPatch, held: object, by_name: bool
) -> None:
    looks = 0
    of_each_step: list[int] = []
    look = contents._look

    def count(value: Any, most: int) -> Any:
        nonlocal looks
        looks += value is held
        return look(value, most)

    def give(y: Tensor) -> Given:
        of_each_step.append(looks)
        return ((), {"held": held}) if by_name else ((held,), {})

    monkeypatch.setattr(contents, "_look", count)
    record(Chain(give))
    of_each_step.append(looks)
    assert of_each_step[0] == 0
    assert MODULES <= of_each_step[1] <= 2 * MODULES  # on the way in, and out where it is a place
    assert of_each_step[1:] == STEPS * [of_each_step[1]]
