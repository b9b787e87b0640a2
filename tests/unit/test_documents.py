"""The documents point at what there is: files, sections, commands of `make`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_torch_modules._diagnosis.rules import tracing

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "otel_torch_modules"
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "deploy/*.md", "benchmarks/*.md")
    for path in ROOT.glob(pattern)
)
NAMES = [path.relative_to(ROOT).as_posix() for path in DOCUMENTS]

_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def prose(name: str) -> str:
    return _FENCE.sub("", (ROOT / name).read_text(encoding="utf-8"))


def anchors(path: Path) -> set[str]:
    """Return what links to sections of a document may name, as GitHub makes it of their headings."""
    headings = _HEADING.findall(prose(path.relative_to(ROOT).as_posix()))
    return {re.sub(r"[^\w\- ]", "", found.lower()).replace(" ", "-") for found in headings}


def links(name: str) -> Iterator[tuple[Path, str]]:
    for link in _LINK.findall(prose(name)):
        if "://" not in link:
            path, _, anchor = link.partition("#")
            here = ROOT / name
            yield (here.parent / path).resolve() if path else here, anchor


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_somewhere(name: str) -> None:
    dead = [
        (str(path), anchor)
        for path, anchor in links(name)
        if not path.exists() or (anchor and anchor not in anchors(path))
    ]
    assert dead == []


@pytest.mark.parametrize("name", NAMES)
def test_every_file_and_target_that_is_named_is_there(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    named = re.findall(r"`((?:_\w+|cli|tests|benchmarks|deploy|docs|examples)/[\w./-]+)`", text)
    missing = [
        path for path in named if not any((base / path).exists() for base in (ROOT, PACKAGE))
    ]
    assert missing == []
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([\w-]+)", text)) <= targets


def test_every_document_is_reached_from_the_readme() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        path = waiting.pop()
        if path not in reached:
            reached.add(path)
            waiting += [to for to, _ in links(path.relative_to(ROOT).as_posix()) if to in DOCUMENTS]
    assert [path.name for path in DOCUMENTS if path not in reached] == []


def test_what_a_span_costs_is_the_same_everywhere() -> None:
    """The rule `tracing` counts with a figure that was measured, and its documents say that one."""
    cost = f"{tracing.SPAN_MS * 1e3:g} µs"
    assert f"at {cost} a span" in prose("docs/why.md")
    (row,) = re.findall(r"^\| processor time of a span,.*$", prose("docs/cost.md"), re.MULTILINE)
    measured = [float(figure) for figure in re.findall(r"\d+\.\d+", row.split("|")[3])]
    assert min(measured) <= tracing.SPAN_MS * 1e3 <= max(measured), row
