"""One word, one thing."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import otel_torch_modules

PACKAGE = Path(otel_torch_modules.__file__).parent
# Of the route.
ROUTE = (
    "_recording",
    "_engine",
    "_spans",
    "_assembly",
    "_job",
    "_emission",
    "tracker",
    "_events.py",
    "_records.py",
    "_site.py",
)
FILES = [
    path for path in sorted(PACKAGE.rglob("*.py")) if path.relative_to(PACKAGE).parts[0] in ROUTE
]
TREES = {path: ast.parse(path.read_text()) for path in FILES}
# Who reads traces has them from files, and sees of the program what these say: there each is one that was read.
READ = {"Site", "Span", "Trace"}
# What is called so is this wherever it is an argument or a field.
WORDS = {"record": "Record", "site": "Site", "config": "Config"}


def test_no_two_classes_are_called_alike() -> None:
    homes = defaultdict(list)
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            # A protocol is called as what it is the protocol of; what begins so is known in its file alone.
            if isinstance(node, ast.ClassDef) and not (
                "Protocol" in map(ast.unparse, node.bases) or node.name.startswith("_")
            ):
                homes[node.name].append(str(path.relative_to(PACKAGE)))
    twice = {name: files for name, files in homes.items() if len(files) > 1}
    assert twice.keys() == READ, twice
    assert all("_trace.py" in files and len(files) == 2 for files in twice.values())


def test_a_word_of_the_glossary_is_one_type() -> None:
    others = []
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.arg) and node.annotation is not None:
                name, annotation = node.arg, ast.unparse(node.annotation)
            elif isinstance(node, ast.AnnAssign):
                name, annotation = ast.unparse(node.target), ast.unparse(node.annotation)
            else:
                continue
            word = name.rpartition(".")[2].lstrip("_")
            if word in WORDS and annotation.removesuffix(" | None") != WORDS[word]:
                others.append((path.name, node.lineno, name, annotation))
    assert others == []
