"""`otel-torch-modules compare`: what became slower from one run to another, or within one."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterator, Sequence

from otel_torch_modules._diagnosis.comparison import Change, Comparison, compare
from otel_torch_modules._diagnosis.series import Series
from otel_torch_modules._diagnosis.words import digits, percent
from otel_torch_modules._grammar import counted
from otel_torch_modules._reading.query import Query
from otel_torch_modules._reading.traces import Traces
from otel_torch_modules.cli.command_error import CommandError
from otel_torch_modules.cli.say import say, say_error
from otel_torch_modules.cli.why import whole_run_of

_WIDTH = 80
_NAMES = 44
_MOST_ROWS = 12
_SLOWER = 1


def print_comparison(
    sources: Sequence[str],
    query: Query,
    *,
    split: int | None = None,
    as_json: bool = False,
    fail_above: float | None = None,
) -> int:
    """Print what the second source is beside the first, or one from step `split` on beside itself before.

    Args:
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
        for line in lines(found, a, b):
            say(line)
    return _SLOWER if fail_above is not None and found.low > fail_above else 0


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


def lines(found: Comparison, a: Series, b: Series) -> Iterator[str]:
    """Yield what is printed."""
    yield from textwrap.wrap(found.sentence, _WIDTH)
    yield " · ".join(
        f"{name}: {counted(len(series), 'step')}, {digits(ms)} ms"
        for name, series, ms in (("A", a, found.a_ms), ("B", b, found.b_ms))
    )
    yield from textwrap.wrap(found.told_by.sentence, _WIDTH)
    for title, changes in (
        ("changed beyond noise", found.changes),
        ("new in B", found.new),
        ("gone in B", found.gone),
    ):
        if changes:
            yield ""
            yield f"  {title:<{_NAMES}}{'A ms':>9}{'B ms':>9}{'more':>9}{'share':>8}"
            for change in changes[:_MOST_ROWS]:
                yield _row(change)
            if len(changes) > _MOST_ROWS:
                yield f"  … and {len(changes) - _MOST_ROWS} smaller; --json has all"


def _row(change: Change) -> str:
    said = change.place.said
    name = said if len(said) <= _NAMES else "…" + said[1 - _NAMES :]
    more = change.b_ms - change.a_ms
    signed = f"{'+' if more > 0 else '−'}{digits(abs(more))}"
    sign = "−" if change.share < 0 else ""
    share = sign + percent(abs(change.share)) if abs(change.share) < 10 else ""
    return (
        f"  {name:<{_NAMES}}{digits(change.a_ms):>9}{digits(change.b_ms):>9}{signed:>9}{share:>8}"
    )
