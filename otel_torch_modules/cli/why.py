"""`otel-torch-modules why`: why a run is slow, in a sentence, and what it is said by."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from statistics import quantiles
from typing import Any, NamedTuple

from rich.cells import cell_len

from otel_torch_modules import semconv
from otel_torch_modules._diagnosis.diagnose import Diagnosis, diagnose
from otel_torch_modules._diagnosis.one_step import compare_step, sentence
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._diagnosis.steps_made import steps_made
from otel_torch_modules._diagnosis.table import ModuleRow, own_times
from otel_torch_modules._diagnosis.words import digits, extent, ms, percent
from otel_torch_modules._grammar import agree, counted
from otel_torch_modules._reading.query import Query
from otel_torch_modules._reading.traces import Traces
from otel_torch_modules._reading.wanted import asked_by
from otel_torch_modules.cli.cells import first_that_fits, padded, tail, wrapped
from otel_torch_modules.cli.command_error import CommandError
from otel_torch_modules.cli.say import say, say_error
from otel_torch_modules.cli.typed import quoted, typed_all

_WIDTH = 100  # what is wider is not read
_MOST_ROWS = 8
_MOST_FINDINGS = 8
_LEAST_SHARE = 0.01  # of the step: a place with less is one of the others
_FOUND = 1
_TITLES = ("own time by place, usual step", "own time by place", "own time", "place")
_TIME, _SHARE, _EACH = 8, 6, 16  # cells of the columns
_LEAST_NAMES = 20  # cells: rather than less the table has fewer columns
_INDENT = " " * 9  # of what is below the findings
_EIGHTHS = " ▏▎▍▌▋▊▉"
_PHASES = {
    semconv.PHASE_FORWARD: "fwd ms",
    semconv.PHASE_BACKWARD: "bwd ms",
    semconv.PHASE_RECOMPUTE: "rec ms",
}


def run_of(traces: Traces) -> Run:
    """Return what traces hold as the rules see it."""
    inside = {(step.trace, step.at) for step in traces.steps}
    outside = [
        root
        for root in traces.roots
        if (root.trace, root.at) not in inside and not root.is_stall  # a copy of what goes on
    ]
    return Run(traces.steps, outside)


def whole_run_of(traces: Traces, losses: Sequence[str]) -> Run:
    """Return the same.

    Args:
        losses: sentences about what could not be read, for the error.

    Raises:
        CommandError: there is no whole step.
    """
    run = run_of(traces)
    if not run:
        verb = traces.verb("has", "have")
        raise CommandError("; ".join([f"{traces.name} {verb} no whole step", *losses]))
    return run


def print_why(
    sources: Sequence[str],
    width: int,
    query: Query,
    *,
    step: int | None = None,
    as_json: bool = False,
    fail_on: Collection[str] = (),
) -> int:
    """Print why the run in `sources`, or its step number `step`, is slow; return the exit code.

    Args:
        width: cells of the terminal.
        query: what is asked of sources that are no files.
        fail_on: names of rules; one that found something makes the exit code 1.

    Raises:
        SourceError: a source cannot be read.
        CommandError: there is no whole step, or not this one.
    """
    traces = Traces.read(*sources, query=query)
    losses = list(traces.cautions())
    run = whole_run_of(traces, losses)
    diagnosis = diagnose(run)
    tell = say_error if as_json else say
    for loss in losses:
        tell(f"{loss}.")
    if step is not None:
        _print_step(traces, run, step, min(width, _WIDTH), as_json=as_json)
    elif as_json:
        say(json.dumps(_as_json(run, diagnosis), ensure_ascii=False))
    else:
        for line in lines(traces, run, diagnosis, sources, min(width, _WIDTH)):
            say(line)
    found = any(finding.rule in fail_on for finding in diagnosis.findings)
    return _FOUND if found else 0


def _as_json(run: Run, diagnosis: Diagnosis) -> dict[str, Any]:
    return {
        "steps": len(run.main),
        "usual_ms": round(run.usual_ms, 4),
        "told_by": run.main.told_by.name.lower(),
        "findings": [finding.as_json() for finding in diagnosis.findings],
    }


def lines(
    traces: Traces, run: Run, diagnosis: Diagnosis, sources: Sequence[str], width: int
) -> Iterator[str]:
    """Yield what is printed, at most 40 lines."""
    yield from wrapped(heading(traces, run), width)
    yield from wrapped(run.main.told_by.sentence, width)
    yield ""
    yield from wrapped(diagnosis.verdict, width)
    yield ""
    shown = diagnosis.findings[:_MOST_FINDINGS]
    longest = max((len(finding.rule) for finding in shown), default=0)
    for finding in shown:
        cost = percent(finding.cost_share) if finding.cost_share else ""
        yield from wrapped(finding.sentence, width, f"{cost:>7}  {finding.rule:<{longest}}  ")
    left = len(diagnosis.findings) - _MOST_FINDINGS
    if left > 0:
        said = f"… and {counted(left, 'finding')} that {agree(left, 'costs', 'cost')} less; --json has all."
        yield from wrapped(said, width, _INDENT)
    if run.warm_up:
        first = run.main.numbers[: run.warm_up]
        said = agree(len(first), f"step {first[0]} is", f"steps {first[0]} to {first[-1]} are")
        times = ", ".join(digits(time) for time in run.main.ms[: run.warm_up][:3])
        yield from wrapped(f"{said} {run.warm_up_said}, not counted ({times} ms)", width, _INDENT)
    yield ""
    yield from _table(run, width)
    yield ""
    yield from _where_next(run, diagnosis, sources, traces.query)


def heading(traces: Traces, run: Run) -> str:
    """Return what run this is, and how fast: the first line."""
    series = run.steady
    parts = [_steps(run), _ranks(traces, run)]
    parts += _model(run)
    accelerators = {str(about.get(semconv.ACCELERATOR)) for about in traces.resources.values()} - {
        "None"
    }
    parts += sorted(accelerators) or ["CPU"]
    spread = ""
    if len(series) >= 10:
        of_hundred = quantiles(series.ms, n=100, method="inclusive")
        spread = f" (p90 {digits(of_hundred[89])}, p99 {digits(of_hundred[98])})"
    in_turn = f", {series.in_turn.said}" if series.in_turn else ""
    parts.append(f"{ms(run.usual_ms)} a step{in_turn}{spread}, {_rate(run)} steps/s")
    return " · ".join(parts)


def _ranks(traces: Traces, run: Run) -> str:
    size = traces.attendance.world_size
    return (
        f"{len(run.ranks)} of {size} ranks"
        if size > len(run.ranks)
        else counted(len(run.ranks), "rank")
    )


def _steps(run: Run) -> str:
    count, in_full = counted(len(run.main), "step"), sum(run.main.in_full)
    return count if in_full == len(run.main) else f"{count}, {in_full} of them with modules"


def _rate(run: Run) -> str:
    rate = steps_made(run.steady).per_second
    return "–" if rate is None else digits(rate)


def _model(run: Run) -> list[str]:
    step = run.main.steps[-1]
    for at in range(step.at, step.shape.after[step.at]):
        site = step.shape.sites[at]
        if site.phase == semconv.PHASE_FORWARD and site.fqn is not None:
            count = site.attributes.get(semconv.MODULE_PARAMETERS)
            if not isinstance(count, int):
                return [site.fqn]
            return [f"{site.fqn}, {_millions(count)} parameters"]
    return []


def _millions(count: int) -> str:
    return (
        f"{count / 1e9:.1f} G"
        if count >= 1e9
        else f"{count / 1e6:.1f} M"
        if count >= 1e5
        else str(count)
    )


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


def _table(run: Run, width: int) -> Iterator[str]:
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


def _where_next(
    run: Run, diagnosis: Diagnosis, sources: Sequence[str], query: Query
) -> Iterator[str]:
    # A number that several steps have leads to the last of them, which may be another one.
    told = (step for finding in diagnosis.findings for step in finding.steps)
    known = run.steady.usual_steps.numbers
    usual = [step for step in known if step not in run.repeated] or known
    number = next((step for step in told if step not in run.repeated), usual[len(usual) // 2])
    asked = "".join(f" {option}={quoted(value)}" for option, value in asked_by(query))
    view = f"otel-torch-modules view {typed_all(sources)}{asked} --step {number}"
    yield f"Look at one: {view}"
    yield f"Jaeger: tag {semconv.STEP_INDEX}={number}"


def _why_not_whole(traces: Traces, number: int) -> str:
    found = [step for step in traces.steps if step.step == number]
    cut = agree(len(found), "it is truncated", "they are truncated")
    lost = agree(len(found), "spans of it were lost", "spans of them were lost")
    return next((f" ({cut if step.truncated else lost})" for step in found), "")


def _print_step(traces: Traces, run: Run, number: int, width: int, *, as_json: bool) -> None:
    try:
        said = sentence(run, number)
    except KeyError:
        known = run.main.numbers
        raise CommandError(
            f"there is no whole step {number}{_why_not_whole(traces, number)}; there are {len(known)}, "
            f"{extent(known)}"
        ) from None
    ranks = compare_step(run, number)
    times = run.main.numbers.count(number)
    if times > 1 and not as_json:
        say(f"Step {number} is there {times} times; this is the last.")
    if as_json:
        say(
            json.dumps(
                {
                    "step": number,
                    "sentence": said,
                    "ranks": [
                        {
                            "rank": of_rank.rank,
                            "ms": round(of_rank.took, 4),
                            "usual_ms": round(of_rank.usual, 4),
                            "places": [
                                {
                                    "phase": loss.place.phase,
                                    "place": loss.place.name,
                                    "ms": round(loss.took, 4),
                                    "usual_ms": round(loss.usual, 4),
                                }
                                for loss in of_rank.losses[:20]
                            ],
                        }
                        for of_rank in ranks
                    ],
                },
                ensure_ascii=False,
            )
        )
        return
    for line in wrapped(said, width):
        say(line)
    places = width - 26
    for of_rank in ranks[:4]:
        say()
        rank = "" if of_rank.rank is None else f"rank {of_rank.rank}: "
        title = padded(
            first_that_fits((f"{rank}own time by place", f"{rank}own time"), places), places
        )
        say(f"  {title}{'ms':>8}{'usual':>8}{'more':>8}")
        for loss in of_rank.losses[:5]:
            name = padded(tail(loss.place.said, places), places)
            more = f"{'−' if loss.more < 0 else '+'}{digits(abs(loss.more))}"
            say(f"  {name}{digits(loss.took):>8}{digits(loss.usual):>8}{more:>8}")
