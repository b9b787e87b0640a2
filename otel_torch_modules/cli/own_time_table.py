"""The table of own times by place, in as many columns as a terminal has room for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from rich.cells import cell_len

from otel_torch_modules import semconv
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._diagnosis.table import ModuleRow, own_times
from otel_torch_modules._diagnosis.words import digits
from otel_torch_modules._grammar import counted
from otel_torch_modules.cli.cells import first_that_fits, padded, tail

_MOST_ROWS = 8
_LEAST_SHARE = 0.01  # of the step: a place with less is one of the others
_TITLES = ("own time by place, usual step", "own time by place", "own time", "place")
_TIME, _SHARE, _EACH = 8, 6, 16  # cells of the columns
_LEAST_NAMES = 20  # cells: rather than less the table has fewer columns
_EIGHTHS = " ▏▎▍▌▋▊▉"
_PHASES = {
    semconv.PHASE_FORWARD: "fwd ms",
    semconv.PHASE_BACKWARD: "bwd ms",
    semconv.PHASE_RECOMPUTE: "rec ms",
}


class _Columns(NamedTuple):
    """What the table has beside names, sums and shares, and how wide it is."""

    names: int
    phases: Mapping[str, str]
    each: bool
    bars: int

    @classmethod
    def fitting(cls, phases: Mapping[str, str], names: int, width: int) -> _Columns:
        """Return those that fit on a terminal of `width` cells, below names as wide as `names` at most."""
        for shown, each in ((phases, True), (phases, False), ({}, False)):
            numbers = _TIME * (len(shown) + 1) + _SHARE + _EACH * each
            room = width - 2 - numbers
            if room >= min(names, _LEAST_NAMES):
                break
        names = min(names, room)
        return cls(names, shown, each, room - names if each else 0)


def own_time_table(run: Run, width: int) -> Iterator[str]:
    """Yield the lines of a table of the places of `run`, the dearest first, for a terminal of `width` cells."""
    rows = own_times(run)
    shown = [row for row in rows[:_MOST_ROWS] if row.ms >= _LEAST_SHARE * run.usual_ms]
    whole = sum(row.ms for row in rows)
    phases = {
        phase: title
        for phase, title in _PHASES.items()
        if any(row.phases.get(phase, 0.0) for row in shown)
    }
    names = max(map(cell_len, (_TITLES[0], *(row.name for row in shown))))
    columns = _Columns.fitting(phases, names, width)
    titles = "".join(f"{title:>{_TIME}}" for title in (*columns.phases.values(), "sum"))
    title = padded(first_that_fits(_TITLES, columns.names), columns.names)
    yield f"  {title}{titles}{'%':>{_SHARE}}{'  each × calls' if columns.each else ''}"
    most = max((row.ms for row in shown), default=0.0) or 1.0  # steps may have no length
    for row in shown:
        yield _row(row, columns, whole, most)
    rest = rows[len(shown) :]
    if rest:
        time = sum(row.ms for row in rest)
        name = f"{counted(len(rest), 'other place'):<{columns.names}}"
        share = f"{100 * time / max(whole, 1e-9):.1f}"
        yield f"  {name}{digits(time):>{_TIME * (len(columns.phases) + 1)}}{share:>{_SHARE}}"


def _row(row: ModuleRow, columns: _Columns, whole: float, most: float) -> str:
    name = padded(tail(row.name, columns.names), columns.names)
    is_module = row.module_class is not None
    times = "".join(
        f"{digits(row.phases[phase]) if is_module and row.phases.get(phase) else '–':>{_TIME}}"
        for phase in columns.phases
    )
    share = 100 * row.ms / max(whole, 1e-9)
    own = f"{times}{digits(row.ms):>{_TIME}}{share:>{_SHARE}.1f}"
    if not columns.each:
        return f"  {name}{own}"
    eighths = round(8 * columns.bars * row.ms / most) if columns.bars > 3 else 0
    bar = "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
    return f"  {name}{own}  {row.each:<{_EACH - 2}}{bar}".rstrip()
