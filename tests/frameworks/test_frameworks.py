"""Frameworks as their users run them: the same training, a trace for each step, a trace for each evaluation."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import pytest

from tests.distributed.traces import Trace
from tests.frameworks.catalogue import JOBS
from tests.frameworks.jobs import Job, run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.program)
def test_a_framework(job: Job, tmp_path: Path) -> None:
    # Two of Ray's clusters that start at once may choose the same ports.
    with ThreadPoolExecutor(1 if job.package == "ray" else 2) as pool:
        running = [
            pool.submit(run, job, tmp_path / folder, traced=folder == "traced")
            for folder in ("untraced", "traced")
        ]
    untraced, traced = (outcome.result() for outcome in running)
    assert traced.parameters == untraced.parameters
    assert traced.steps == untraced.steps
    before = [top(trace) for trace in traced.traces if trace.step is None]
    assert [name.partition(" ")[0] for name in before] == ["forward"] * job.before
    rest = {top(trace) for trace in traced.traces if trace.step is not None}
    assert rest <= {"train.step", "evaluate"}
    steps = [trace.step for trace in traced.traces if top(trace) == "train.step"]
    assert steps == list(range(untraced.steps))
    assert evaluations(traced.traces) == job.evaluations
    assert bool(traced.said) is job.warns, traced.said


def top(trace: Trace) -> str:
    """Return the name of the trace's root; of several, for the ranks must hang together, all."""
    return ", ".join(span.name for span in trace.tops)


def evaluations(traces: list[Trace]) -> tuple[int, ...]:
    """Return the forwards of each evaluation: one pass may be two traces where the machine stood still in between."""
    passes = [
        (trace.step, trace.tops[0].attributes["torch.evaluate.forwards"])
        for trace in traces
        if top(trace) == "evaluate"
    ]
    return tuple(
        sum(int(forwards) for _, forwards in same) for _, same in groupby(passes, itemgetter(0))
    )
