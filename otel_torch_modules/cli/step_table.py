"""The table of steps: how long each took and on what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from rich.text import Text

from otel_torch_modules._diagnosis.device_times import says_phases
from otel_torch_modules._trace import Span
from otel_torch_modules.cli.phase_columns import cells, fitting
from otel_torch_modules.cli.phase_shares import BETWEEN, PHASES, phase_shares
from otel_torch_modules.cli.phase_styles import PHASE_STYLES

_PHASES = (*PHASES, BETWEEN)
_STEP_WIDTH = 8
_TIME_WIDTH = 11
_BAR_WIDTHS = range(12, 41)  # least and most; below that the table has none


def step_table(steps: Sequence[Span], width: int, *, most: int) -> Iterator[Text]:
    """Yield the lines of the table, at most `width` cells wide.

    Of more than `most` steps only the slowest are shown, in their own order; the medians are of all that are whole. A
    wide table ends in bars: length is duration, colours are phases. A narrow one leaves out the shortest phases.
    """
    shares = [phase_shares(step) for step in steps]
    whole = [place for place, step in enumerate(steps) if not step.incomplete]
    longest = max(map(_duration, steps))
    slowest = slowest_step(steps)
    shown = sorted(sorted(range(len(steps)), key=lambda place: -steps[place].duration)[:most])
    room = width - _STEP_WIDTH - _TIME_WIDTH
    phases = fitting({phase: sum(share[phase] for share in shares) for phase in _PHASES}, room)
    left = room - sum(map(cells, phases)) - 2
    bar_width = min(left, _BAR_WIDTHS[-1]) if left >= _BAR_WIDTHS[0] else 0

    yield _header(phases)
    for place in shown:
        step = steps[place]
        mark = _mark(step, slowest)
        label = f"{mark}{'' if step.step is None else step.step}"
        line = _line(label, step.duration, shares[place], phases)
        if bar_width:
            line.append("  ")
            length = round(bar_width * step.duration / max(longest, 1))
            line.append_text(_bar(shares[place], length))
        if step is slowest:
            line.stylize("bold")
        yield line
    if whole and len(steps) > 1:
        medians = {phase: median(shares[place][phase] for place in whole) for phase in phases}
        yield _line("median", median(steps[place].duration for place in whole), medians, phases)
    if any(map(says_phases, steps)):
        yield Text("Shares are those of the device's time, where it tells of forward and backward.")
    if len(shown) < len(steps):
        yield Text(f"The {len(shown)} slowest of {len(steps)} steps; --list shows all.")


def slowest_step(steps: Sequence[Span]) -> Span:
    """Return the slowest of the whole steps, of all of them where none is whole."""
    return max([step for step in steps if not step.incomplete] or steps, key=_duration)


def _mark(step: Span, slowest: Span) -> str:
    """Return what stands before a step's number. That it is the slowest its bold row says too."""
    if step.incomplete:
        return "✂ "
    if any(head.failed for head in (step, *step.ranks)):
        return "✗ "
    return "▸ " if step is slowest else ""


def _duration(step: Span) -> int:
    return step.duration


def _header(phases: Sequence[str]) -> Text:
    line = Text(style="bold")
    line.append(f"{'step':>{_STEP_WIDTH}}{'ms':>{_TIME_WIDTH}}")
    for phase in phases:
        line.append(f"{phase:>{cells(phase)}}", style=PHASE_STYLES[phase])
    return line


def _line(label: str, duration: float, shares: Mapping[str, float], phases: Sequence[str]) -> Text:
    line = Text(f"{label:>{_STEP_WIDTH}}{duration / 1e6:>{_TIME_WIDTH}.2f}")
    for phase in phases:
        percent = f"{shares[phase]:.1%}" if shares[phase] else "-"
        line.append(f"{percent:>{cells(phase)}}", style=PHASE_STYLES[phase])
    return line


def _bar(shares: Mapping[str, float], width: int) -> Text:
    """Return a bar of `width` cells in which every phase has its share, rounded so that none is lost."""
    bar = Text()
    share_so_far, cells = 0.0, 0
    for phase in _PHASES:
        share_so_far += shares[phase]
        upto = round(width * share_so_far)
        bar.append("█" * (upto - cells), style=PHASE_STYLES[phase])
        cells = upto
    return bar
