"""A step as a tree in which equal siblings are one row."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from rich.cells import cell_len
from rich.text import Text

from otel_torch_modules import semconv
from otel_torch_modules._diagnosis.device_times import (
    ToldBy,
    lasted,
    ran,
    says_phases,
    told_by,
)
from otel_torch_modules._diagnosis.places import Places
from otel_torch_modules._diagnosis.series import own_times
from otel_torch_modules._trace import Span
from otel_torch_modules.cli.phase_shares import BETWEEN
from otel_torch_modules.cli.phase_styles import PHASE_STYLES

_NUMBER = re.compile(r"([0-9]+)")
_COLUMNS = 30  # cells of the numbers
_DEVICE = 11  # of that of the device
_LEAST_NAMES = 20  # cells: rather than less there is no number of the device
_BAR = 20


class Row(NamedTuple):
    """Equal spans. Times are ms, of all of them together."""

    spans: Sequence[Span]
    children: list[Row]
    total: float
    own: float
    on_device: float | None  # None where the device does not tell of all of them

    @property
    def label(self) -> str:
        """Their name, with the numbers from the first to the last, and how many they are."""
        name = _name_of_all(list(dict.fromkeys(span.name for span in self.spans)))
        return f"{name} ×{len(self.spans)}" if len(self.spans) > 1 else name

    def size(self) -> int:
        """Return how many rows it is, with those below it."""
        return sum(1 for _ in _with_those_below(self))


def _with_those_below(root: Row) -> Iterator[Row]:
    stack = [root]  # a tree may be deeper than Python recurses
    while stack:
        row = stack.pop()
        yield row
        stack += row.children


def _name_of_all(names: Sequence[str]) -> str:
    """Return one name for several that differ in numbers: each of these from the least to the most.

    Example:
        >>> _name_of_all(["forward h.0.2", "forward h.1.2", "forward h.3.2"])
        'forward h.0…3.2'
    """
    parts = [_NUMBER.split(name) for name in names]  # words and numbers in turn
    if any(others[::2] != parts[0][::2] for others in parts):
        return names[0]
    name = ""
    for at, of_all in enumerate(zip(*parts, strict=True)):
        numbers = sorted(set(of_all), key=int) if at % 2 else of_all
        name += numbers[0] if numbers[0] == numbers[-1] else f"{numbers[0]}…{numbers[-1]}"
    return name


def folded(step: Span) -> Row:
    """Return the tree of a step; siblings that differ in nothing but numbers of repeated blocks are one row.

    Where the device tells of modules, total and own time are told by it.
    """
    places = Places(step.shape.sites)
    if told_by([step]) is ToldBy.MODULES:
        return _tree(step, places, _Times(_device_ns, _own_device_ns))
    own = own_times(step)
    return _tree(step, places, _Times(_program_ns, lambda span: own[span.at - step.at]))


class _Times(NamedTuple):
    """By whose time a tree is told: how long a span took, with what is below it and without, in ns."""

    total: Callable[[Span], int]
    own: Callable[[Span], int]


def _program_ns(span: Span) -> int:
    return span.duration


def _device_ns(span: Span) -> int:
    taken = _taken(span)
    return span.duration if taken is None else taken


def _own_device_ns(span: Span) -> int:
    return _device_ns(span) - sum(map(_device_ns, span.children))


def _taken(span: Span) -> int | None:
    """Return how long the device was at a span, and how long a step lasted by it; None where it does not say."""
    around = span.phase in (semconv.PHASE_STEP, semconv.PHASE_RANK)
    times = ran(span) if not around else next(lasted([span])) if says_phases(span) else None
    return None if times is None else times[1] - times[0]


def _tree(step: Span, places: Places, times: _Times) -> Row:
    root = _row([step], times)
    stack = [root]
    while stack:
        row = stack.pop()
        groups: dict[tuple[str | None, str], list[Span]] = {}
        for span in row.spans:
            for child in span.children:
                fqn = child.site.fqn
                groups.setdefault(
                    (child.phase, child.name if fqn is None else places.pattern(fqn)), []
                ).append(child)
        row.children.extend(_row(group, times) for group in groups.values())
        stack += row.children
    return root


def _row(spans: Sequence[Span], times: _Times) -> Row:
    """Return a row below which nothing has been put yet."""
    total = sum(map(times.total, spans)) / 1e6
    known = [taken for span in spans if (taken := _taken(span)) is not None]
    on_device = sum(known) / 1e6 if len(known) == len(spans) else None
    own = max(sum(map(times.own, spans)) / 1e6, 0.0)
    return Row(spans, [], total, own, on_device)


def folded_tree(root: Row, width: int, most: int) -> Iterator[Text]:
    """Yield the lines of a tree below a heading: at most `most` rows, the longest."""
    shown = _longest(root, most)
    rows = list(_walk(root, "", "", shown))
    labels = [guide + row.label + remark for row, guide, remark in rows]
    # Where the total is the device's, it need not be told twice.
    beside = [row.on_device for row, _, _ in rows if row.on_device not in (None, row.total)]
    is_beside = bool(beside) and width - _COLUMNS - _DEVICE >= _LEAST_NAMES
    title = f"{'device ms':>{_DEVICE}}" if is_beside else ""
    whole = root.on_device or root.total
    names = min(max(map(cell_len, labels)), width - _COLUMNS - len(title))
    bars = min(width - names - _COLUMNS - len(title) - 2, _BAR)
    yield Text(f"{'':{names}}{'total ms':>10}{'self ms':>10}{'%':>8}{title}", style="bold")
    for (row, guide, remark), _ in zip(rows, labels, strict=True):
        style = PHASE_STYLES.get(row.spans[0].phase or BETWEEN, PHASE_STYLES[BETWEEN])
        line = Text()
        line.append(guide, style=PHASE_STYLES[BETWEEN])
        line.append(row.label, style=style)
        line.append(remark, style=PHASE_STYLES[BETWEEN])
        line.truncate(names, overflow="ellipsis", pad=True)
        line.append(f"{row.total:>10.2f}{row.own:>10.2f}", style=style)
        if beside:  # shares are those of the device, of what it tells of
            share = None if row.on_device is None else row.on_device / max(whole, 1e-9)
        else:
            share = row.total / max(root.total, 1e-9)
        line.append(f"{'' if share is None else f'{100 * share:.1f}':>8}", style=style)
        if is_beside:
            took = "" if row.on_device is None else f"{row.on_device:.2f}"
            line.append(f"{took:>{_DEVICE}}", style=style)
        if bars > 3 and share is not None:
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
