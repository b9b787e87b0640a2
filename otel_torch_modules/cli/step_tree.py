"""One step as a tree, each span with its bar on the step's time line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from rich.cells import cell_len
from rich.text import Text

from otel_torch_modules import semconv
from otel_torch_modules._grammar import counted
from otel_torch_modules._trace import Span
from otel_torch_modules.cli.phase_shares import BETWEEN
from otel_torch_modules.cli.phase_styles import PHASE_STYLES
from otel_torch_modules.cli.timeline import timeline_bar

_TIME_WIDTH = 10
_WAITS = 0.05  # of what a step took the device: where that is less behind, it has had nothing to do
_UNCUT_SPANS = 44  # what a screen holds


class Cut(NamedTuple):
    """What of a tree is left out. With neither, the longest spans that fit on a screen are shown."""

    depth: int | None = None  # levels below the step
    min_ms: float | None = None

    def shown(self, root: Span) -> set[Span]:
        """Return the spans that are shown. A span without its parent is shown nowhere."""
        spans = list(_walk_with_depth(root))
        if self.depth is None and self.min_ms is None:
            # The parts of a step come first: a short one is news as well.
            spans.sort(key=lambda entry: (min(entry[1], 2), -entry[0].duration))
            return {span for span, _ in spans[:_UNCUT_SPANS]}
        return {
            span
            for span, depth in spans
            if depth == 0
            or (
                (self.depth is None or depth <= self.depth)
                and (self.min_ms is None or span.duration >= self.min_ms * 1e6)
            )
        }


class _Row(NamedTuple):
    span: Span
    guide: str  # the lines of the tree
    hidden: int  # spans right below that are not shown, with all below these

    @property
    def label(self) -> str:
        return f"{self.span.name} ✗" if self.span.failed else self.span.name

    @property
    def remark(self) -> str:
        return f" … {self.hidden} more" if self.hidden else ""


def step_tree(root: Span, width: int, cut: Cut) -> Iterator[Text]:
    """Yield the lines of the tree below a heading, at most `width` cells wide."""
    rows = list(_rows(root, cut.shown(root)))
    name_width = min(
        max(cell_len(row.guide + row.label + row.remark) for row in rows), 9 * width // 20
    )
    on_device = [row.span.measure(semconv.DEVICE_DURATION) for row in rows]
    has_device = any(seconds is not None for seconds in on_device)
    bar_width = max(width - name_width - _TIME_WIDTH * (1 + has_device) - 2, 1)
    around = [span for head in (root, *root.ranks) for span in (head, head.lane) if span]
    whole = (min(span.start for span in around), max(span.end for span in around))

    yield heading(root)
    end = f"{(whole[1] - whole[0]) / 1e6:.2f} ms"
    device = f"{'device ms':>{_TIME_WIDTH}}" if has_device else ""
    columns = f"{'ms':>{_TIME_WIDTH}}{device}"
    yield Text(f"{'':{name_width}}{columns}  0{end:>{bar_width - 1}}", style="bold")
    phases = _phases(root)
    for row, seconds in zip(rows, on_device, strict=True):
        style = PHASE_STYLES[phases[row.span]]
        line = Text()
        line.append(row.guide, style=PHASE_STYLES[BETWEEN])
        line.append(row.label, style="bold red" if row.span.failed else style)
        line.append(row.remark, style=PHASE_STYLES[BETWEEN])
        line.truncate(name_width, overflow="ellipsis", pad=True)
        line.append(f"{row.span.duration / 1e6:>{_TIME_WIDTH}.2f}", style=style)
        if has_device:
            took = "" if seconds is None else f"{seconds * 1e3:.2f}"
            line.append(f"{took:>{_TIME_WIDTH}}", style=style)
        bar = timeline_bar(row.span.start, row.span.end, whole, bar_width)
        line.append(f"  {bar}", style=style)
        yield line
    total = sum(1 for _ in _walk_with_depth(root))
    if len(rows) < total and cut == Cut():
        yield Text(f"The {len(rows)} longest of {total} spans; --min-ms 0 shows all.")
    if has_device:
        yield from _of_device(root)
    yield from errors(root)


def errors(root: Span) -> Iterator[Text]:
    """Yield the exceptions that spans ended with."""
    for span in root.walk():
        if span.exception:
            yield Text(f"✗ {span.name}: {span.exception}", style="bold red")


def _of_device(root: Span) -> Iterator[Text]:
    """Yield for each rank whether its device was behind; in a job of one process, for that."""
    for span in root.ranks or [root]:
        took, behind = span.measure(semconv.DEVICE_DURATION), span.measure(semconv.DEVICE_LAG)
        if took is None or behind is None:
            continue
        who = "The device" if span.rank is None else f"Rank {span.rank}'s device"
        said = f"{who} took {took * 1e3:.2f} ms, and was {behind * 1e3:.2f} ms behind where backward ended"
        waits = "; it waits for the program" if behind < _WAITS * took else ""
        yield Text(f"{said}{waits}.")


def heading(root: Span) -> Text:
    """Return what is above the tree: what it is of, how long that took, and its trace."""
    is_step = root.step is not None and not root.is_evaluation
    parts = [f"step {root.step}" if is_step else root.name, f"{root.duration / 1e6:.2f} ms"]
    if root.forwards is not None:
        parts.append(counted(root.forwards, "forward pass", "forward passes"))
    micro_batches = root.number(semconv.STEP_MICRO_BATCHES)
    if micro_batches:
        parts.append(counted(micro_batches, "micro-batch", "micro-batches"))
    if root.incomplete:
        parts.append("incomplete")
    for remark, key in (("skipped", semconv.STEP_SKIPPED), ("truncated", semconv.STEP_TRUNCATED)):
        if root.attributes.get(key) is True:
            parts.append(remark)
    parts.append(f"trace {root.trace_id}")
    return Text(", ".join(parts), style="bold")


def _walk_with_depth(root: Span) -> Iterator[tuple[Span, int]]:
    stack = [(root, 0)]
    while stack:
        span, depth = stack.pop()
        yield span, depth
        stack.extend((child, depth + 1) for child in _below(span))


def _below(span: Span) -> list[Span]:
    """Return what is right below a span: what it has, and last the lane of its device."""
    lane = span.lane
    return span.children if lane is None else [*span.children, lane]


def _phases(root: Span) -> dict[Span, str]:
    """Return every span's phase; a span of the program's own has that of what it lies in."""
    phases = {root: root.phase if root.phase in PHASE_STYLES else BETWEEN}
    for span, _ in _walk_with_depth(root):
        for child in _below(span):
            phases[child] = child.phase if child.phase in PHASE_STYLES else phases[span]
    return {span: phase or BETWEEN for span, phase in phases.items()}


def _rows(root: Span, shown: set[Span]) -> Iterator[_Row]:
    stack = [
        (root, "", "")
    ]  # a span, the lines to its left, and those to the left of what is below it
    while stack:
        span, guide, below = stack.pop()
        below_it = _below(span)
        hidden = (child for child in below_it if child not in shown)
        yield _Row(span, guide, sum(1 for child in hidden for _ in child.walk()))
        children = [child for child in reversed(below_it) if child in shown]
        for place, child in enumerate(children):
            last = place == 0
            stack.append(
                (child, below + ("└─ " if last else "├─ "), below + ("   " if last else "│  "))
            )
