"""The programs that spread a model over four ranks, run once with and once without tracing for all tests that ask."""

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
    """What a program did, with and without tracing."""

    losses: dict[str, object]  # by scenario, in their order
    losses_untraced: dict[str, object]
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
        traced = json.loads(run(command(program), file, **causes))
        return Runs(traced, json.loads(run(command(program), None)), read(file))
