"""What `view` shows first: all steps as a line, the usual one and the odd ones as rows, the usual one as a tree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from rich.text import Text

from otel_torch_modules._diagnosis.compiled import compiled_as_one
from otel_torch_modules._diagnosis.diagnose import diagnose
from otel_torch_modules._diagnosis.rules.excess import SLOW, excesses
from otel_torch_modules._diagnosis.rules.explained import in_short
from otel_torch_modules._diagnosis.rules.failed import failures_of_main
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._diagnosis.words import digits, ms
from otel_torch_modules._grammar import counted
from otel_torch_modules._trace import Span
from otel_torch_modules.cli.cells import wrapped
from otel_torch_modules.cli.folded_tree import folded, folded_tree
from otel_torch_modules.cli.phase_columns import cells, fitting
from otel_torch_modules.cli.phase_styles import PHASE_STYLES
from otel_torch_modules.cli.sparkline import sparkline

_MOST_ODD = 5
_MOST_FAILED = 2  # of these
MOST_ROWS = 22  # of the tree: with all else it fits 40 lines


def overview(run: Run, covered: str | None, width: int) -> Iterator[Text]:
    """Yield the lines: at most 40, the verdict last.

    Args:
        covered: what is to be said of the time outside the steps.
        width: cells of the terminal.
    """
    count = counted(len(run.main), "step")
    in_turn = f", {run.steady.in_turn.said}" if run.steady.in_turn else ""
    line = sparkline(run.main.ms, max(width - len(count) - len(in_turn) - 30, 10))
    yield Text(f"{count}  {line}  usually {ms(run.usual_ms)}{in_turn}")
    yield from _rows(run, width)
    if covered:
        yield from map(Text, wrapped(covered, width))
    yield Text()
    step = usual_step(run)
    rank = "" if run.main.rank is None else f" of rank {run.main.rank}"
    number = "" if step.step is None else f" {step.step}"
    yield Text(f"The usual step{rank}: step{number}, trace {step.trace_id}", style="bold")
    yield from folded_tree(folded(step), width, MOST_ROWS)
    yield from map(Text, wrapped(run.main.told_by.sentence, width))
    hint = compiled_as_one(step)
    if hint:
        yield from map(Text, wrapped(hint, width))
    yield Text()
    diagnosis = diagnose(run)
    yield from map(Text, wrapped(diagnosis.verdict, width))
    worst = diagnosis.findings[0]
    if worst.cost_share:
        yield from map(Text, islice(wrapped(worst.sentence, width), 3))


def usual_step(run: Run) -> Span:
    """Return the steady step that takes as long as the median, of those that have their modules."""
    usual = run.steady.usual_steps
    at = min(range(len(usual)), key=lambda at: abs(usual.ms[at] - run.usual_ms))
    return usual.steps[at]


def _rows(run: Run, width: int) -> Iterator[Text]:
    usual = {
        phase: run.usual_phases.get(phase, 0.0) / run.usual_whole_ms
        for phase in PHASE_STYLES
        if any(time > 0.0005 * run.usual_ms for time in run.main.phase(phase))
    }
    head = Text(f"{'step':>8}{'ms':>10}", style="bold")
    usual = {phase: usual[phase] for phase in fitting(usual, width - head.cell_len)}
    for phase in usual:
        head.append(f"{phase:>{cells(phase)}}", style=PHASE_STYLES[phase])
    yield head
    yield _row("usual", run.usual_ms, usual)
    for at, words in _odd(run):
        row = Text(f"{run.main.numbers[at]:>8}{digits(run.main.ms[at]):>10}  {words}")
        row.truncate(width, overflow="ellipsis")
        yield row


def _row(label: str, time: float, shares: Mapping[str, float]) -> Text:
    line = Text(f"{label:>8}{digits(time):>10}")
    for phase, share in shares.items():
        said = f"{share:.1%}" if share else "-"
        line.append(f"{said:>{cells(phase)}}", style=PHASE_STYLES[phase])
    return line


def _odd(run: Run) -> Sequence[tuple[int, str]]:
    """Return the number of each step that is shown, in order of time, with what is to be said of it."""
    odd = dict.fromkeys(range(min(run.warm_up, 1)), run.warm_up_said)
    failures = failures_of_main(run)
    for at in list(failures)[-_MOST_FAILED:]:
        odd[at] = f"✗ {failures[at].raised}"
    for excess in sorted(excesses(run, SLOW), key=lambda excess: -excess.ms):
        if len(odd) < _MOST_ODD:
            odd.setdefault(run.warm_up + excess.at, in_short(run, excess))
    return sorted(odd.items())
