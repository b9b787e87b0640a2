"""How much of a run's time lies in no span at all, and where: the table of ``docs/causes.md``.

    python -m tests.frameworks.in_no_span [PROGRAM...]

Of the time from the first step's beginning to the last one's end; what lies in no span but the step's own, or a rank's,
counts. Each program runs three times, and the median is printed with the least and the most, then in which gaps of the
median run it lies, longest first, as the spans on both sides.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from otel_torch_modules import semconv
from otel_torch_modules._reading.traces import Traces
from otel_torch_modules._trace import Span
from otel_torch_modules.examples import train_gpt
from tests.frameworks.catalogue import JOBS
from tests.frameworks.jobs import run

_PROGRAMS = ("transformers_trainer", "lightning_automatic", "trl_sft", "nanogpt")
_RUNS = 3
_FILE = "traces.jsonl"
_AROUND = (semconv.PHASE_STEP, semconv.PHASE_RANK)


class Shares(NamedTuple):
    """Of a run's time."""

    in_no_span: float
    between: float
    gaps: Counter[str]  # share of the time by what is before and after


def shares(traces: Path) -> Shares:
    """Return those of the run that wrote this file."""
    read = Traces.read(str(traces))
    spans = [span for root in read.roots for span in root.walk()]
    start, end = min(step.start for step in read.steps), max(step.end for step in read.steps)
    inner = [span for span in spans if span.phase not in _AROUND]
    gaps: Counter[str] = Counter()
    for before, after, length in _gaps(inner, start, end):
        gaps[f"{before} → {after}"] += length / (end - start)
    between = sum(span.end - span.start for span in inner if span.name == semconv.BETWEEN)
    return Shares(sum(gaps.values()), between / (end - start), gaps)


def _gaps(spans: list[Span], start: int, end: int) -> Iterator[tuple[str, str, int]]:
    now, last = start, "the beginning"
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        if span.end <= start or span.start >= end:
            continue
        if span.start > now:
            yield last, span.name, span.start - now
        if span.end > now:
            now, last = span.end, span.name
    if end > now:
        yield last, "the end", end - now


def _demo(folder: Path) -> None:
    file = folder / _FILE
    variables = {
        "OTEL_TORCH_MODULES_ENABLED": "true",
        "OTEL_TORCH_MODULES_FILE": str(file),
        "OTEL_TRACES_EXPORTER": "otlp_file",
    }
    command = [sys.executable, train_gpt.__file__, "--steps", "10"]
    subprocess.run(command, env=os.environ | variables, check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    """Print the figures of each program."""
    jobs = {job.program: job for job in JOBS}
    for program in sys.argv[1:] or ("demo", *_PROGRAMS):
        found = []
        for _ in range(_RUNS):
            with tempfile.TemporaryDirectory() as folder:
                if program == "demo":
                    _demo(Path(folder))
                else:
                    run(jobs[program], Path(folder), traced=True)
                found.append(shares(Path(folder) / _FILE))
        found.sort()
        least, middle, most = found
        print(
            f"{program}: in no span {middle.in_no_span:.1%} ({least.in_no_span:.1%} to {most.in_no_span:.1%}), "
            f"in between {middle.between:.1%}",
            flush=True,
        )
        for gap, share in middle.gaps.most_common(6):
            print(f"    {share:.2%} {gap}", flush=True)


if __name__ == "__main__":
    main()
