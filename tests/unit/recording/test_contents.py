"""Calls with one tensor and other things: the other things are looked at again, and never for another kind."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from otel_torch_modules._recording.contents import (
    input_tensors,
    lone_tensor,
    output_tensors,
)
from otel_torch_modules._site import Site

X, HELD = torch.ones(1), torch.zeros(1)


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
