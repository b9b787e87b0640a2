"""Writes ``docs/frameworks.md``: what the traces of each framework's run say, and what they cost.

Run it as ``make frameworks``; it takes about half an hour on two cores.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from statistics import mean, median

from otel_torch_modules._reading.traces import Traces
from otel_torch_modules._trace import Span
from otel_torch_modules.cli.phase_shares import phase_shares
from tests.frameworks.catalogue import JOBS
from tests.frameworks.jobs import Job, Outcome, run
from tests.frameworks.test_frameworks import evaluations, top

_HEADER = """# Frameworks

What was tried, on {day}, unedited but for being tiny: each program of `tests/frameworks/programs` run {runs} times
without tracing and {runs} times with the one variable set, in turns, on the CPU ({cores} cores, Python {python},
torch {torch}). Parameters were the same bit for bit in all. `make frameworks` writes this page anew; `make test`
runs each program once.

*Steps* are those shown, of so many optimizer steps. *Evaluations* are traces of their own, with the forwards in
each. The shares are of the steps' own time by phase, first step left out; *between* lies in no span of ours, and
*most of it* says where in a step the largest part of that is. *ms* is the median time from one optimizer step to
the next, untraced and traced, the median of {runs} runs each with the least and the most. The models are the
smallest there are: a call of a module costs the same few microseconds in a model a thousand times as large. A dash
means that the optimizer is none of torch's, so that no time was taken.

"""


def main() -> None:
    """Run all and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--page", type=Path, default=Path("docs/frameworks.md"))
    options = parser.parse_args()
    rows = [row for job in JOBS for row in _rows(job, options.runs)]
    phases = list(rows[0][1])
    head = ["framework", "version", "steps", "evaluations", *phases, "most of it", "ms", "added"]
    lines = [_line(head), _line(["---", "---", *["---:"] * (len(head) - 2)])]
    for cells, shares, rest in rows:
        lines.append(_line([*cells, *(f"{share:.0%}" for share in shares.values()), *rest]))
    header = _HEADER.format(
        day=date.today().isoformat(),
        runs=options.runs,
        cores=len(os.sched_getaffinity(0)),
        python=sys.version.split()[0],
        torch=version("torch"),
    )
    options.page.parent.mkdir(exist_ok=True)
    options.page.write_text(header + "\n".join(lines) + "\n")


def _rows(job: Job, runs: int) -> Iterator[tuple[list[str], dict[str, float], list[str]]]:
    print(job.framework, file=sys.stderr, flush=True)
    untraced: list[Outcome] = []
    traced: list[Outcome] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for _ in range(runs):
            for with_tracing, outcomes in ((False, untraced), (True, traced)):
                shutil.rmtree(folder / "run", ignore_errors=True)
                outcomes.append(run(job, folder / "run", traced=with_tracing))
        steps = Traces.read(folder / "run" / "traces.jsonl").steps[1:]
    assert len({outcome.parameters for outcome in (*untraced, *traced)}) == 1, job.framework
    last = traced[-1]
    shown = sum(top(trace) == "train.step" for trace in last.traces)
    shares = [phase_shares(step) for step in steps]
    means = {phase: mean(of_step[phase] for of_step in shares) for phase in shares[0]}
    yield (
        [
            job.framework,
            version(job.package),
            f"{shown} of {last.steps}",
            _numbers(evaluations(last.traces)),
        ],
        means,
        [_largest_gap(steps), *_cost(untraced, traced)],
    )


def _numbers(forwards: Sequence[int]) -> str:
    """Say ``8 x 4`` for eight passes of four forwards."""
    counts = Counter(forwards)
    return ", ".join(f"{count} x {size}" for size, count in counts.items()) or "-"


def _largest_gap(steps: Sequence[Span]) -> str:
    gaps: Counter[str] = Counter()
    for step in steps:
        for rank in step.ranks or [step]:
            for before, after in pairwise(rank.children):
                gaps[f"{before.phase} → {after.phase}"] += max(after.start - before.end, 0)
    return gaps.most_common(1)[0][0] if gaps else "-"


def _cost(untraced: Sequence[Outcome], traced: Sequence[Outcome]) -> list[str]:
    without, with_tracing = ([run.step_ms for run in runs] for runs in (untraced, traced))
    if not median(without):
        return ["-", "-"]
    added = median(with_tracing) - median(without)
    shown = [f"{median(ms):.2f} ({min(ms):.2f} to {max(ms):.2f})" for ms in (without, with_tracing)]
    return [" → ".join(shown), f"{added:+.2f} ms, {added / median(without):+.0%}"]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
