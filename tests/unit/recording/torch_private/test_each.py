"""Whatever is taken of torch has a test of its own, which says on which versions it is there."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from otel_torch_modules._recording import torch_private

PLACES = sorted(
    path for path in Path(torch_private.__path__[0]).glob("*.py") if path.stem != "__init__"
)


def names(statements: list[ast.stmt]) -> list[str]:
    """Return what a file defines for others."""
    found = []
    for statement in statements:
        if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
            found.append(statement.name)
        elif isinstance(statement, ast.Assign):
            found += map(ast.unparse, statement.targets)
        elif isinstance(statement, ast.AnnAssign):
            found.append(ast.unparse(statement.target))
    return [name for name in found if not name.startswith("_")]


@pytest.mark.parametrize(
    ("place", "name"),
    [(path.stem, name) for path in PLACES for name in names(ast.parse(path.read_text()).body)],
)
def test_has_a_test(place: str, name: str) -> None:
    tests = ast.parse(Path(__file__).with_name(f"test_{place}.py").read_text()).body
    assert any(name.lower() in test for test in names(tests) if test.startswith("test_"))
