"""Number agrees, whatever is counted: what is said of one and of two things goes through one function."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_torch_modules._grammar import agree, counted
from tests.support.package_source import PACKAGE, trees_in

TREES = trees_in(PACKAGE / "cli")


def test_number_agrees() -> None:
    assert [counted(number, "step") for number in (0, 1, 2)] == ["0 steps", "1 step", "2 steps"]
    assert [counted(number, "pass is", "passes are") for number in (1, 2)] == [
        "1 pass is",
        "2 passes are",
    ]
    assert [agree(number, "it", "them") for number in (0, 1, 2)] == ["them", "it", "them"]


def choices_of_words(tree: ast.Module) -> Iterator[int]:
    """Yield the lines on which one of two texts is chosen by a comparison with 1."""
    for node in ast.walk(tree):
        if isinstance(node, ast.IfExp) and isinstance(node.test, ast.Compare):
            numbers = [one for one in node.test.comparators if isinstance(one, ast.Constant)]
            words = (node.body, node.orelse)
            if any(one.value == 1 for one in numbers) and all(
                isinstance(word, (ast.JoinedStr, ast.Constant)) for word in words
            ):
                yield node.lineno


@pytest.mark.parametrize("path", TREES, ids=lambda path: path.stem)
def test_words_are_chosen_in_one_place(path: Path) -> None:
    assert list(choices_of_words(TREES[path])) == []


def test_a_choice_is_seen() -> None:
    guilty = ast.parse("n = 2\nprint(f\"{n} step{'s' if n > 1 else ''}\")\n")
    assert list(choices_of_words(guilty)) == [2]
