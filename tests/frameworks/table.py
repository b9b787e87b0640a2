"""Writes ``docs/frameworks.md``: what the traces of each framework's run say, and what they cost.

Run it as ``make frameworks``; it takes about half an hour on two cores. ``python -m tests.frameworks.table nanogpt``
measures one program, or several, and keeps the page's other rows, unless these were measured elsewhere.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from statistics import mean, median

from otel_torch_modules import semconv
from otel_torch_modules._reading.traces import Traces
from otel_torch_modules._trace import Span
from otel_torch_modules.cli.phase_shares import BETWEEN, PHASES, phase_shares
from tests.frameworks.catalogue import JOBS
from tests.frameworks.jobs import Job, Outcome, run
from tests.frameworks.test_frameworks import evaluations, top

_FEWEST = 3  # runs that say what tracing costs
_PAGE = Path("docs/frameworks.md")

_WHERE = "Measured on {cores} cores ({processor}) with Python {python} and torch {torch}."

_HEADER = """# Frameworks

What was tried, unedited but for being tiny: each program of [`tests/frameworks/programs`](../tests/frameworks/programs)
run as many times as *runs* says without tracing, and as many with the one variable set, in turns, on the CPU.
Parameters were the same bit for bit in all runs of a program. {where}
`make frameworks` writes this page anew; `make test` runs each program once.

*Steps* are those shown, of so many optimizer steps. *Evaluations* are traces of their own, as how many there were of
how many forwards. The shares are of the steps' own time by phase, first step left out; *between* lies in no span of
these phases, and *most of it* says between which two the largest part of that is.

*ms* is the processor time of the process, all its threads, the one that sends among them, from one optimizer step to
the next: the median of a run, untraced → traced, each the median of those runs with the least and the most. *Added* is
the difference of the two, which means nothing where it is less than the spread. It says more of a program's first
steps than of its later ones: the models are the smallest there are, they make few steps, and a place in the model costs
ten times as much when it is first seen. [What it costs](cost.md) has the figures of a job that runs on. A dash means
that the optimizer is none of torch's, so that no time was taken, or that there was one run, which says nothing of it.

"""

_HEAD = (
    "framework",
    "version",
    "tried",
    "runs",
    "steps",
    "evaluations",
    *PHASES,
    BETWEEN,
    "most of it",
    "ms",
    "added",
)


def main() -> None:
    """Run what is asked for and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [job.program for job in JOBS]
    parser.add_argument("programs", nargs="*", metavar="program", help=f"{', '.join(names)}; all")
    parser.add_argument("--runs", type=int, default=5, help="untraced and traced, of each; 5")
    options = parser.parse_args()
    asked = options.programs or names
    if unknown := set(asked).difference(names):
        parser.error(f"no such program: {', '.join(sorted(unknown))}")
    where = _WHERE.format(
        cores=len(os.sched_getaffinity(0)),
        processor=_processor(),
        python=platform.python_version(),
        torch=version("torch"),
    )
    for job in JOBS:
        if job.program in asked:
            row = _row(job, options.runs)
            rows = _rows(where) | {job.framework: row}  # read anew: each is kept once it is there
            _write(where, rows)


def _processor() -> str:
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return models[0] if models else platform.machine()


def _rows(where: str) -> dict[str, str]:
    """Return the page's rows by framework, none if they were measured elsewhere."""
    page = _PAGE.read_text() if _PAGE.exists() else ""
    if where not in page:
        return {}
    rows = [line for line in page.splitlines() if line.startswith("| ")][2:]
    return {row.split(" | ")[0].removeprefix("| "): row for row in rows}


def _write(where: str, rows: dict[str, str]) -> None:
    shown = [rows[job.framework] for job in JOBS if job.framework in rows]
    rules = [*["---"] * 3, *["---:"] * (len(_HEAD) - 3)]
    table = "\n".join([_line(_HEAD), _line(rules), *shown])
    _PAGE.write_text(_HEADER.format(where=where) + table + "\n")


def _row(job: Job, runs: int) -> str:
    print(job.framework, file=sys.stderr, flush=True)
    untraced: list[Outcome] = []
    traced: list[Outcome] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run"
        for _ in range(runs):
            for with_tracing, outcomes in ((False, untraced), (True, traced)):
                shutil.rmtree(folder, ignore_errors=True)
                outcomes.append(run(job, folder, traced=with_tracing))
        steps = Traces.read(folder / "traces.jsonl").steps[1:]
    assert len({outcome.parameters for outcome in (*untraced, *traced)}) == 1, job.framework
    last = traced[-1]
    shown = sum(top(trace) == "train.step" for trace in last.traces)
    shares = [phase_shares(step) for step in steps]
    means = [mean(of_step[phase] for of_step in shares) for phase in (*PHASES, BETWEEN)]
    cells = [
        job.framework,
        version(job.package),
        date.today().isoformat(),
        str(runs),
        f"{shown} of {last.steps}",
        _numbers(evaluations(last.traces)),
        *(f"{share:.0%}" for share in means),
        _largest_gap(steps),
        *_cost(untraced, traced),
    ]
    return _line(cells)


def _numbers(forwards: Sequence[int]) -> str:
    """Say ``8 x 4`` for eight passes of four forwards."""
    counts = Counter(forwards)
    return ", ".join(f"{count} x {size}" for size, count in counts.items()) or "-"


def _largest_gap(steps: Sequence[Span]) -> str:
    gaps: Counter[str] = Counter()
    for step in steps:
        for rank in step.ranks or [step]:
            phases = [span for span in rank.children if span.phase != semconv.PHASE_BETWEEN]
            for before, after in pairwise(phases):
                gaps[f"{before.phase} → {after.phase}"] += max(after.start - before.end, 0)
    return gaps.most_common(1)[0][0] if gaps else "-"


def _cost(untraced: Sequence[Outcome], traced: Sequence[Outcome]) -> list[str]:
    without, with_tracing = ([run.step_ms for run in runs] for runs in (untraced, traced))
    if len(without) < _FEWEST or not median(without):
        return ["-", "-"]
    added = median(with_tracing) - median(without)
    shown = [f"{median(ms):.2f} ({min(ms):.2f} to {max(ms):.2f})" for ms in (without, with_tracing)]
    return [" → ".join(shown), f"{added:+.2f} ms, {added / median(without):+.0%}"]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
