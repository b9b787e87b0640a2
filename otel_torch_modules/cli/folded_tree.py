"""A step as a tree in which equal siblings are one row."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich.text import Text

from otel_torch_modules._diagnosis.places import Places
from otel_torch_modules._trace import Span
from otel_torch_modules.cli.phase_shares import BETWEEN
from otel_torch_modules.cli.phase_styles import PHASE_STYLES

_NUMBER = re.compile(r"^(.*?)(\d+)$")
_COLUMNS = 30  # cells of the numbers
_BAR = 20


class Row(NamedTuple):
    """Equal spans. Times are ms, of all of them together."""

    spans: Sequence[Span]
    children: list[Row]
    total: float
    own: float

    @property
    def label(self) -> str:
        """Their name, with the numbers from the first to the last, and how many they are."""
        names = list(dict.fromkeys(span.name for span in self.spans))
        name = names[0]
        numbered = [_NUMBER.match(name) for name in names]
        if len(names) > 1 and all(numbered):
            found = sorted(int(match[2]) for match in numbered if match)
            first = numbered[0]
            name = f"{first[1] if first else ''}{found[0]}…{found[-1]}"
        return f"{name} ×{len(self.spans)}" if len(self.spans) > 1 else name

    def size(self) -> int:
        """Return how many rows it is, with those below it."""
        return 1 + sum(child.size() for child in self.children)


def folded(step: Span) -> Row:
    """Return the tree of a step; siblings that differ in nothing but numbers of repeated blocks are one row."""
    return _row([step], Places(step.shape.sites))


def _row(spans: Sequence[Span], places: Places) -> Row:
    groups: dict[tuple[str | None, str], list[Span]] = {}
    for span in spans:
        for child in span.children:
            fqn = child.site.fqn
            groups.setdefault(
                (child.phase, child.name if fqn is None else places.pattern(fqn)), []
            ).append(child)
    children = [_row(group, places) for group in groups.values()]
    total = sum(span.duration for span in spans) / 1e6
    return Row(spans, children, total, max(total - sum(child.total for child in children), 0.0))


def folded_tree(root: Row, width: int, most: int) -> Iterator[Text]:
    """Yield the lines of a tree below a heading: at most `most` rows, the longest."""
    shown = _longest(root, most)
    rows = list(_walk(root, "", "", shown))
    labels = [guide + row.label + remark for row, guide, remark in rows]
    names = min(max(map(len, labels)), width - _COLUMNS)
    bars = min(width - names - _COLUMNS - 2, _BAR)
    yield Text(f"{'':{names}}{'total ms':>10}{'self ms':>10}{'%':>8}", style="bold")
    for (row, guide, remark), _ in zip(rows, labels, strict=True):
        style = PHASE_STYLES.get(row.spans[0].phase or BETWEEN, PHASE_STYLES[BETWEEN])
        line = Text()
        line.append(guide, style=PHASE_STYLES[BETWEEN])
        line.append(row.label, style=style)
        line.append(remark, style=PHASE_STYLES[BETWEEN])
        line.truncate(names, overflow="ellipsis", pad=True)
        share = row.total / max(root.total, 1e-9)
        line.append(f"{row.total:>10.2f}{row.own:>10.2f}{100 * share:>8.1f}", style=style)
        if bars > 3:
            line.append(f"  {'█' * round(bars * min(share, 1.0))}", style=style)
        line.rstrip()
        yield line


def _longest(root: Row, most: int) -> set[int]:
    """Return the ids of the rows that are shown: the longest, none without its parent."""
    found: list[tuple[int, float, int, Row]] = []
    stack = [(root, 0)]
    while stack:
        row, depth = stack.pop()
        found.append((min(depth, 2), -row.total, len(found), row))  # the parts of a step come first
        stack += [(child, depth + 1) for child in reversed(row.children)]
    return {id(row) for *_, row in sorted(found)[:most]}


def _walk(row: Row, guide: str, below: str, shown: set[int]) -> Iterator[tuple[Row, str, str]]:
    stack = [(row, guide, below)]
    while stack:
        row, guide, below = stack.pop()
        children = [child for child in row.children if id(child) in shown]
        hidden = sum(child.size() for child in row.children if id(child) not in shown)
        yield row, guide, f" … {hidden} more" if hidden else ""
        for place, child in enumerate(reversed(children)):
            last = place == 0
            stack.append(
                (child, below + ("└─ " if last else "├─ "), below + ("   " if last else "│  "))
            )
