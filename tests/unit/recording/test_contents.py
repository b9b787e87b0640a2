"""Calls with one tensor and other things: the other things are looked at again, and never for another kind."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from otel_torch_modules._recording.contents import (
    input_tensors,
    lone_tensor,
    output_tensors,
)
from otel_torch_modules._site import Site

X, HELD = torch.ones(1, requires_grad=True), torch.zeros(1, requires_grad=True)
TARGET, MASK = torch.zeros(1), torch.ones(1)  # that no backward goes through


def given(site: Site, values: tuple[Any, ...]) -> list[Any]:
    """Return the tensors found in arguments, as the recorder looks for them."""
    lone = lone_tensor(values, site.lone_input, site)
    return [lone] if lone is not None else input_tensors(values, {}, site)


def by_keyword(site: Site, values: tuple[Any, ...]) -> list[Any]:
    """The same where all but the first have names."""
    first, *others = values
    named = {f"option_{place}": value for place, value in enumerate(others)}
    lone = lone_tensor(values, site.lone_input, site)
    return [lone] if lone is not None else input_tensors((first,), named, site)


def returned(site: Site, values: tuple[Any, ...]) -> list[Any]:
    """The same of results."""
    lone = lone_tensor(values, site.lone_result, site)
    return [lone] if lone is not None else output_tensors(values, site)


@pytest.mark.parametrize("found", [given, by_keyword, returned])
@pytest.mark.parametrize("other", [[1, 2], {"a": 1}, "text", (3, None)])
def test_a_tensor_that_comes_later_is_found_when_the_next_look_is_due(
    found: Any, other: object
) -> None:
    site = Site("Net", "Net")
    assert found(site, (X, other)) == [X]
    holds = {list: [HELD], dict: {"a": HELD}, str: "text", tuple: (HELD,)}[type(other)]
    with_it = [len(found(site, (X, holds))) for _ in range(128)]
    assert with_it == 127 * [1] + [1 if type(other) is str else 2]


@pytest.mark.parametrize("found", [given, by_keyword, returned])
@pytest.mark.parametrize("other", [(HELD,), [HELD], HELD, {"a": HELD}])
def test_things_of_another_kind_are_looked_at_at_once(found: Any, other: object) -> None:
    site = Site("Net", "Net")
    assert found(site, (X, "text")) == [X]
    assert found(site, (X, "text", other)) == [X, HELD]
    assert found(site, (other, X))[0] is HELD


@pytest.mark.parametrize("found", [given, by_keyword])
def test_a_tensor_given_again_is_one_and_another_in_its_place_is_found_at_once(found: Any) -> None:
    site = Site("Net", "Net")
    found(site, (X, X, X, None, "text"))  # as attention is given what it attends to
    assert found(site, (X, X, X, None, "text")) == [X]
    for values in ((X, HELD, X), (X, X, HELD), (HELD, X, X), (HELD, HELD, X)):
        assert found(site, (*values, None, "text")) == [*values]
        found(site, (X, X, X, None, "text"))
    assert found(site, (HELD, HELD, HELD, None, "text")) == [HELD]


class Subclass(torch.Tensor):
    pass


MADE = torch.ones(1, requires_grad=True) * 2
with torch.no_grad():
    VIEW = MADE.view(1, 1)  # needs no gradient itself


@pytest.mark.parametrize("found", [given, by_keyword])
def test_a_tensor_that_no_backward_goes_through_is_left_out(found: Any) -> None:
    site = Site("Net", "Net")
    assert found(site, (MADE, TARGET, "text")) == [MADE, TARGET]
    assert found(site, (MADE, MASK, "text")) == [MADE]
    assert found(site, (MADE, TARGET, "text")) == [MADE]


@pytest.mark.parametrize("found", [given, by_keyword])
@pytest.mark.parametrize(
    "other", [MADE, VIEW, torch.ones(1, requires_grad=True), Subclass(), [MADE], (HELD,)]
)
def test_one_that_a_backward_may_go_through_is_found_in_its_place(found: Any, other: Any) -> None:
    site = Site("Net", "Net")
    first = X * 2
    found(site, (first, TARGET))
    inside = other if isinstance(other, torch.Tensor) else other[0]
    for _ in range(2):
        assert [*map(id, found(site, (first, other)))] == [id(first), id(inside)]


def test_a_mode_of_torch_functions_sees_no_look_at_what_was_left_out() -> None:
    seen: list[object] = []

    class Sees(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            seen.append(func)
            return func(*args, **(kwargs or {}))

    site = Site("Net", "Net")
    with Sees():
        first = given(site, (MADE, TARGET))
    for _ in range(2):
        assert given(site, (MADE, TARGET))[0] is MADE
    with Sees():
        again = given(site, (MADE, TARGET))
    assert (len(first), len(again), seen) == (2, 2, [])
