"""One word, one thing."""

from __future__ import annotations

import ast
from collections import defaultdict

from tests.support.package_source import PACKAGE, TREES

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
# Who reads traces has them from files, and sees of the program what these say: there each is one that was read.
READ = {"Site": "_shape.py", "Span": "_trace.py", "Trace": "_trace.py"}
# What is called so is this wherever it is an argument or a field.
WORDS = {"record": "Record", "site": "Site", "config": "Config"}


def test_no_two_classes_are_called_alike() -> None:
    homes = defaultdict(list)
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            # A protocol is called as what it is the protocol of; what begins so is known in its file alone.
            if isinstance(node, ast.ClassDef) and not (
                "Protocol" in map(ast.unparse, node.bases) or node.name.startswith("_")
            ):
                homes[node.name].append(str(path.relative_to(PACKAGE)))
    twice = {name: files for name, files in homes.items() if len(files) > 1}
    assert twice.keys() == READ.keys(), twice
    assert all(READ[name] in files and len(files) == 2 for name, files in twice.items())


def test_a_word_of_the_glossary_is_one_type() -> None:
    others = []
    for path, tree in TREES.items():
        for node in ast.walk(tree) if path.relative_to(PACKAGE).parts[0] in ROUTE else ():
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
