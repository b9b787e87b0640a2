"""No tuple is made from an iterator: while that runs, the program may find the tuple, half made.

``gc.get_objects()`` in another thread is enough, and CPython then raises ``SystemError`` where the tuple should get its
length. From a list it is made at once.
"""

from __future__ import annotations

import ast
import gc

import pytest

from tests.support.package_source import TREES

AT_ONCE = (ast.Name, ast.Attribute, ast.List, ast.ListComp, ast.Call)
ITERATORS = {"map", "filter", "zip", "chain", "chain.from_iterable", "reversed", "enumerate"}


def half_made(tree: ast.Module) -> list[int]:
    """Return the lines in which a tuple is made from an iterator."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "tuple"
        and node.args
        and not (
            isinstance(node.args[0], AT_ONCE)
            and not (
                isinstance(node.args[0], ast.Call) and ast.unparse(node.args[0].func) in ITERATORS
            )
        )
    ]


def test_a_tuple_that_is_found_half_made_raises() -> None:
    found = []
    with pytest.raises(SystemError):
        tuple(found.append(gc.get_objects()) for _ in range(1))
    assert tuple([found.append(gc.get_objects()) for _ in range(1)]) == (None,)


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("tuple(x for x in y)", [1]),
        ("\ntuple(map(str, y))", [2]),
        ("tuple([x for x in y])\ntuple(y)\ntuple(y.z())", []),
    ],
)
def test_the_search_finds_what_it_is_for(source: str, lines: list[int]) -> None:
    assert half_made(ast.parse(source)) == lines


def test_none_is_made_from_an_iterator() -> None:
    found = {path.name: half_made(tree) for path, tree in TREES.items()}
    assert {name: lines for name, lines in found.items() if lines} == {}
