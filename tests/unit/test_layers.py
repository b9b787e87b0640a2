"""The rooms of the package import only what they may: the folder list is the architecture."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.support.package_source import PACKAGE, TREES, trees_in

NAME = PACKAGE.name
# The rooms in the order of a record's way, and what of the others each may import.
ROOMS: dict[str, tuple[str, ...]] = {
    "_control": (),
    "_recording": ("_control",),
    "_engine": ("_control",),
    "_spans": (),
    "_assembly": ("_engine", "_spans"),
    "_job": ("_control", "_engine", "_spans"),
    "_emission": ("_engine", "_spans", "_job"),
    "tracker": ("_recording",),
    "_reading": (),
    "_diagnosis": (),
    "_pictures": ("_diagnosis",),
    "cli": ("_control", "_reading", "_diagnosis", "_pictures"),
}
# Of what is outside: who knows torch, and who OpenTelemetry.
WITHOUT_TORCH = (
    "_control",
    "_engine",
    "_spans",
    "_assembly",
    "_emission",
    "_reading",
    "_diagnosis",
    "_pictures",
    "cli",
)
WITHOUT_OPENTELEMETRY = (
    "_control",
    "_recording",
    "_engine",
    "_spans",
    "_assembly",
    "_diagnosis",
    "_pictures",
    "tracker",
)

# What crosses from room to room, and what all read, knows of nothing outside.
PLAIN = (
    "_allowed.py",
    "_entry_points.py",
    "_events.py",
    "_grammar.py",
    "_greenlets.py",
    "_heard_already.py",
    "_interruption.py",
    "_log.py",
    "_notes.py",
    "_odd_values.py",
    "_option_texts.py",
    "_otlp_values.py",
    "_own_descriptor.py",
    "_own_thread.py",
    "_printable.py",
    "_program_end.py",
    "_proxies.py",
    "_records.py",
    "_secrets.py",
    "_shape.py",
    "_site.py",
    "_stack_trace.py",
    "_standard_variables.py",
    "_step_context.py",
    "_texts.py",
    "_trace.py",
    "_undisturbed.py",
    "_varint.py",
    "_weak_table.py",
    "config.py",
    "environment_variables.py",
    "keep.py",
    "ranks.py",
    "schedule.py",
    "semconv.py",
)


# Where names stand that others do not publish.
PRIVATE = {"torch": "_recording/torch_private/", "opentelemetry": "_emission/sdk.py"}


def _forbidden(room: str) -> tuple[str, ...]:
    others = (other for other in ROOMS if other != room and other not in ROOMS[room])
    return (
        *(("torch",) if room in WITHOUT_TORCH else ()),
        *(("opentelemetry",) if room in WITHOUT_OPENTELEMETRY else ()),
        *(f"{NAME}.{other}" for other in others),
    )


FORBIDDEN = {
    **{room: _forbidden(room) for room in ROOMS},
    **{plain: ("torch", "opentelemetry", *(f"{NAME}.{room}" for room in ROOMS)) for plain in PLAIN},
}


def imported_names(tree: ast.Module) -> Iterator[str]:
    """Yield what a file imports, by full name, also inside functions and for type checkers."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_files() -> dict[str, set[str]]:
    """Return the modules of the package, and which of them each imports."""
    files = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): tree
        for path, tree in TREES.items()
    }
    packages = {name.removesuffix(".__init__"): name for name in files}
    found: dict[str, set[str]] = {}
    for name, tree in files.items():
        found[name] = set()
        for imported in imported_names(tree):
            while imported and imported not in packages:  # what is imported from a module
                imported = imported.rpartition(".")[0]
            found[name] |= {packages[imported]} if imported else set()
    return found


def circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """Return which modules cannot be put in any order, for each depends on the others of its list."""
    sorter = TopologicalSorter(imports)
    try:
        sorter.prepare()
    except CycleError as error:
        circle = error.args[1]
        # What it reports is one; cut, others show.
        return [circle, *circles({**imports, circle[1]: imports[circle[1]] - {circle[0]}})]
    return []


def violations(
    trees: Mapping[Path, ast.Module], forbidden: tuple[str, ...]
) -> list[tuple[str, str]]:
    assert trees
    return [
        (path.name, name)
        for path, tree in trees.items()
        for name in imported_names(tree)
        if any(name == entry or name.startswith(entry + ".") for entry in forbidden)
    ]


@pytest.mark.parametrize("place", FORBIDDEN)
def test_imports_only_what_it_may(place: str) -> None:
    assert violations(trees_in(PACKAGE / place), FORBIDDEN[place]) == []


def owner(node: ast.expr) -> str:
    """Return the name that what is asked of it begins with."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def private_names(tree: ast.Module, of: str) -> list[str]:
    """Return the names in a file that its package `of` does not publish: what is imported, and what is asked of it."""
    imported = [
        alias for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    ]
    named = [alias.name for alias in imported]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            named += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute) and owner(node) == of:
            named.append(ast.unparse(node))
    return [
        name
        for name in dict.fromkeys(named)
        if name.startswith(f"{of}.")
        and any(part.startswith("_") and not part.startswith("__") for part in name.split("."))
    ]


@pytest.mark.parametrize("of", PRIVATE)
def test_private_names_of_others_stand_in_one_place(of: str) -> None:
    found = {
        str(path.relative_to(PACKAGE)): private_names(tree, of) for path, tree in TREES.items()
    }
    places = {place for place, names in found.items() if names}
    assert {place for place in places if not place.startswith(PRIVATE[of])} == set()
    assert places


def test_private_names_are_seen_wherever_they_stand() -> None:
    source = (
        "import torch, torch._inductor\n"
        "from torch import nn, _C\n"
        "def late():\n"
        "    from torch.utils._pytree import tree_map\n"
        "    return torch._C._get(torch.__version__, nn)\n"
    )
    assert private_names(ast.parse(source), "torch") == [
        "torch._inductor",
        "torch._C",
        "torch.utils._pytree.tree_map",
        "torch._C._get",
    ]


def test_there_is_no_circle_of_imports_not_even_of_late_ones_or_of_types() -> None:
    assert circles(imported_files()) == []


def test_circles_are_seen() -> None:
    imports = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"e", "a"}, "e": {"d"}, "f": {"a", "d"}}
    assert sorted(sorted(set(circle)) for circle in circles(imports)) == [
        ["a", "b", "c"],
        ["d", "e"],
    ]


def test_forbidden_imports_are_seen_wherever_they_stand() -> None:
    guilty = ast.parse(
        "import torch.nn\n"
        "import torchvision\n"
        "def late():\n"
        "    from opentelemetry import trace\n"
        "    from otel_torch_modules._recording import fqn\n"
    )
    assert violations({Path("guilty.py"): guilty}, FORBIDDEN["_assembly"]) == [
        ("guilty.py", "torch.nn"),
        ("guilty.py", "opentelemetry.trace"),
        ("guilty.py", "otel_torch_modules._recording.fqn"),
    ]
