"""The programs that spread a model over four ranks, run once with tracing, and once without for tests that compare."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from tests.distributed.launch import command, run
from tests.distributed.traces import Trace, read

RANKS = 4
STEPS = 2  # of each scenario


class Runs(NamedTuple):
    """What a program did with tracing."""

    losses: dict[str, object]  # by scenario, in their order
    traces: list[Trace]

    def steps_of(self, scenario: str) -> list[Trace]:
        """Return the traces of the scenario's steps."""
        first = list(self.losses).index(scenario) * STEPS
        steps = range(first, first + STEPS)
        return [trace for trace in self.traces if trace.step in steps]


@cache
def runs_of(program: str) -> Runs:
    """Return the runs of `program`, of all its scenarios."""
    causes = {"OTEL_TORCH_MODULES_CAUSES": "compile,checkpoint,collective"}
    with TemporaryDirectory() as folder:
        file = Path(folder, "traces.jsonl")
        return Runs(json.loads(run(command(program), file, **causes)), read(file))


@cache
def losses_untraced(program: str) -> dict[str, object]:
    """Return what the scenarios of `program` come to without tracing."""
    losses: dict[str, object] = json.loads(run(command(program), None))
    return losses
