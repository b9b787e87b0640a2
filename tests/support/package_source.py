"""The source of the package, parsed once for all tests that read it."""

from __future__ import annotations

import ast
from pathlib import Path

import otel_torch_modules

PACKAGE = Path(otel_torch_modules.__file__).parent
TREES = {path: ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}


def trees_in(place: Path) -> dict[Path, ast.Module]:
    """Return the trees of a file of the package, or of all files below a folder of it."""
    return {path: tree for path, tree in TREES.items() if path.is_relative_to(place)}
