"""`otel-torch-modules why`: why a run is slow, in a sentence, and what it is said by."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from statistics import quantiles
from typing import Any

from otel_torch_modules import semconv
from otel_torch_modules._diagnosis.diagnose import Diagnosis, diagnose
from otel_torch_modules._diagnosis.run import Run
from otel_torch_modules._diagnosis.steps_made import steps_made
from otel_torch_modules._diagnosis.words import digits, ms, percent
from otel_torch_modules._grammar import agree, counted
from otel_torch_modules._reading.query import Query
from otel_torch_modules._reading.traces import Traces
from otel_torch_modules._reading.wanted import asked_by
from otel_torch_modules.cli.cells import wrapped
from otel_torch_modules.cli.command_error import CommandError
from otel_torch_modules.cli.own_time_table import own_time_table
from otel_torch_modules.cli.say import say, say_error
from otel_torch_modules.cli.typed import quoted, typed_all
from otel_torch_modules.cli.why_step import print_step, step_as_json

_WIDTH = 100  # what is wider is not read
_MOST_FINDINGS = 8
_FOUND = 1
_INDENT = " " * 9  # of what is below the findings


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
    if as_json:
        told = _as_json(run, diagnosis) if step is None else step_as_json(traces, run, step)
        say(json.dumps(told, ensure_ascii=False))
    elif step is not None:
        print_step(traces, run, step, min(width, _WIDTH))
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
    yield from own_time_table(run, width)
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
