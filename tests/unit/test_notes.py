"""What the program says of one span, in a row: the latest of each kind is kept, as a span would."""

from __future__ import annotations

from typing import Any

import pytest

from otel_torch_modules._notes import MOST, Notes


def said(notes: Notes) -> list[tuple[Any, ...]]:
    return [(method, *arguments) for method, arguments, _ in notes.in_order()]


def test_all_is_there_while_there_is_little() -> None:
    notes = Notes()
    notes.add("update_name", ("first",), 1)
    notes.add("set_attributes", ({"a": 1, "b": 2},), 2)
    notes.add("add_event", ("event", {}, None), 3)
    notes.add("set_attributes", ({"a": 3},), 4)
    notes.add("update_name", ("second",), 5)
    assert notes.in_order() == [
        ("update_name", ("first",), 1),
        ("add_event", ("event", {}, None), 3),
        ("set_attributes", ({"b": 2, "a": 3},), 4),
        ("update_name", ("second",), 5),
    ]


@pytest.mark.parametrize("method", ["add_event", "add_link", "update_name", "set_status"])
def test_of_many_of_one_kind_the_latest_stay_and_push_out_no_other(method: str) -> None:
    notes = Notes()
    notes.add("set_attributes", ({"kept": 1},), 0)
    notes.add("other", ("kept",), 0)
    for number in range(5 * MOST):
        notes.add(method, (number,), number)
    kept = said(notes)
    latest = [one for one in kept if one[0] == method]
    assert MOST <= len(latest) < 2 * MOST
    assert latest == [(method, 5 * MOST - back) for back in range(len(latest), 0, -1)]
    assert ("set_attributes", {"kept": 1}) in kept
    assert ("other", "kept") in kept


def test_of_many_attributes_those_set_last_stay() -> None:
    notes = Notes()
    for number in range(5 * MOST):
        notes.add("set_attributes", ({f"a{number}": number, "again": number},), number)
    ((_, attributes),) = said(notes)
    assert len(attributes) == MOST
    assert attributes["again"] == attributes[f"a{5 * MOST - 1}"] == 5 * MOST - 1
    assert "a0" not in attributes
