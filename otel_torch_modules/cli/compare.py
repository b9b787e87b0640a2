"""`otel-torch-modules compare`: what became slower from one run to another, or within one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence

from otel_torch_modules._diagnosis.comparison import Change, Comparison, compare
from otel_torch_modules._diagnosis.series import Series
from otel_torch_modules._diagnosis.words import digits, percent
from otel_torch_modules._grammar import counted
from otel_torch_modules._reading.query import Query
from otel_torch_modules._reading.traces import Traces
from otel_torch_modules.cli.cells import padded, tail, wrapped
from otel_torch_modules.cli.command_error import CommandError
from otel_torch_modules.cli.say import say, say_error
from otel_torch_modules.cli.why import whole_run_of

_WIDTH = 81  # what is wider is not read
_COLUMNS = {"A ms": 9, "B ms": 9, "more": 9, "share": 8}
_OF_NARROW = ("more", "share")
_LEAST_NAMES = 20  # cells: rather than less there are the columns of a narrow terminal alone
_MOST_ROWS = 12
_SLOWER = 1


def print_comparison(
    sources: Sequence[str],
    width: int,
    query: Query,
    *,
    split: int | None = None,
    as_json: bool = False,
    fail_above: float | None = None,
) -> int:
    """Print what the second source is beside the first, or one from step `split` on beside itself before.

    Args:
        width: cells of the terminal.
        query: what is asked of sources that are no files.
        fail_above: a share; where B is surely slower by more, the exit code is 1.

    Raises:
        SourceError: a source cannot be read.
        CommandError: there are not two to compare, or no whole steps in one.
    """
    if len(sources) != (2 if split is None else 1):
        raise CommandError("compare takes two sources, or one and --split STEP")
    tell = say_error if as_json else say
    a, *others = (_steady(source, query, tell) for source in sources)
    a, b = (a, others[0]) if split is None else _parts(a, split)
    found = compare(a, b)
    if as_json:
        say(json.dumps(found.as_json(), ensure_ascii=False))
    else:
        for line in lines(found, a, b, min(width, _WIDTH)):
            say(line)
    return _SLOWER if fail_above is not None and found.is_slower_than(fail_above) else 0


def _steady(source: str, query: Query, tell: Callable[[str], None]) -> Series:
    traces = Traces.read(source, query=query)
    losses = list(traces.cautions())
    run = whole_run_of(traces, losses)
    for loss in losses:
        tell(f"{loss}.")
    return run.steady


def _parts(series: Series, split: int) -> tuple[Series, Series]:
    before = [at for at, number in enumerate(series.numbers) if number < split]
    after = [at for at, number in enumerate(series.numbers) if number >= split]
    if not before or not after:
        raise CommandError(
            f"--split {split} leaves nothing to compare: the steps, warm-up left out, go from "
            f"{min(series.numbers)} to {max(series.numbers)}"
        )
    return series.select(before), series.select(after)


def lines(found: Comparison, a: Series, b: Series, width: int) -> Iterator[str]:
    """Yield what is printed."""
    yield from wrapped(found.sentence, width)
    sides = " · ".join(
        f"{name}: {counted(len(series), 'step')}, median {digits(ms)} ms"
        for name, series, ms in (("A", a, found.a_ms), ("B", b, found.b_ms))
    )
    yield from wrapped(sides, width)
    yield from wrapped(found.pace_sentence, width)
    yield from wrapped(found.told_by.sentence, width)
    columns = _COLUMNS
    if width - 2 - sum(columns.values()) < _LEAST_NAMES:
        columns = {title: columns[title] for title in _OF_NARROW}
    names = width - 2 - sum(columns.values())
    heads = "".join(f"{title:>{cells}}" for title, cells in columns.items())
    for title, changes in (
        ("changed beyond noise", found.changes),
        ("new in B", found.new),
        ("gone in B", found.gone),
    ):
        if changes:
            yield ""
            yield f"  {title:<{names}}{heads}"
            for change in changes[:_MOST_ROWS]:
                yield _row(change, names, columns)
            if len(changes) > _MOST_ROWS:
                yield f"  … and {len(changes) - _MOST_ROWS} smaller; --json has all"


def _row(change: Change, names: int, columns: Mapping[str, int]) -> str:
    more = change.b_ms - change.a_ms
    sign = "−" if change.share < 0 else ""
    said = {
        "A ms": digits(change.a_ms),
        "B ms": digits(change.b_ms),
        "more": f"{'+' if more > 0 else '−'}{digits(abs(more))}",
        "share": sign + percent(abs(change.share)) if abs(change.share) < 10 else "",
    }
    numbers = "".join(f"{said[title]:>{cells}}" for title, cells in columns.items())
    return f"  {padded(tail(change.place.said, names), names)}{numbers}"
