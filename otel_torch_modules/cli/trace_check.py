"""How many steps a file of traces holds, and how many were dropped or cut down while it was written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from otel_torch_modules._diagnosis.compiled import compiled_as_one
from otel_torch_modules._grammar import agree, counted
from otel_torch_modules._reading.attendance import Attendance
from otel_torch_modules._reading.source_error import SourceError
from otel_torch_modules._reading.traces import TRUNCATED_FOR, Traces
from otel_torch_modules._trace import Span
from otel_torch_modules.cli.examined import Examined
from otel_torch_modules.environment_variables import (
    OTEL_TORCH_MODULES_DETAIL_RANKS,
    OTEL_TORCH_MODULES_MAX_DEPTH,
    OTEL_TORCH_MODULES_SCHEDULE,
)

_SUBJECT = "traces"


def examine_traces(files: Sequence[str]) -> Iterator[Examined]:
    """Yield a finding for each of `files`, and what they have not together: ranks may have a file each."""
    together, apart = Attendance(), set[str]()
    for path in files:
        try:
            file = Traces.read(path)
            together.take(file.steps, file.resources)
            apart.update(file.attendance.gaps())
            yield from _examine_file(path, file)
        except SourceError as error:
            yield Examined(_SUBJECT, str(path), str(error))
    for gap in together.gaps():
        if gap not in apart:
            yield Examined(
                _SUBJECT, f"these {len(files)} files: damaged", f"these {len(files)} files: {gap}"
            )


def _examine_file(path: str, file: Traces) -> Iterator[Examined]:
    steps = file.steps
    held = len({(step.trace_id, step.step) for step in steps})  # ranks without it share one
    dropped = sum(map(_dropped_before, (*steps, *file.outside)))
    incomplete = len(steps) - len(file.whole_steps)
    cut = f", {incomplete} incomplete" if incomplete else ""
    cut += f", {file.truncated} truncated" if file.truncated else ""
    fault = ""
    if dropped:
        fault = (
            f"{path}: {counted(dropped, 'step was', 'steps were')} dropped, evaluations included: they came faster "
            f"than they could be sent, or were refused (the job's log says which); "
            f"record fewer of them (raise wait in {OTEL_TORCH_MODULES_SCHEDULE}) "
            f"or less of each (lower {OTEL_TORCH_MODULES_MAX_DEPTH}, name fewer {OTEL_TORCH_MODULES_DETAIL_RANKS})"
        )
    yield Examined(_SUBJECT, f"{path}: {counted(held, 'step')}{cut}, {dropped} dropped", fault)
    for step in file.whole_steps[-1:]:
        hint = compiled_as_one(step)
        if hint:
            yield Examined(_SUBJECT, f"{path}: {hint}")
    if file.truncated:
        fault = (
            f"{path}: {counted(file.truncated, 'step was', 'steps were')} truncated, and nothing is concluded from "
            f"what is left: {agree(file.truncated, 'it', 'they')} {TRUNCATED_FOR}; record less of each (lower "
            f"{OTEL_TORCH_MODULES_MAX_DEPTH}), or raise that limit"
        )
        yield Examined(_SUBJECT, f"{path}: truncated", fault)
    for loss in file.losses():
        yield Examined(_SUBJECT, f"{path}: damaged", loss)


def _dropped_before(root: Span) -> int:
    ranks = root.ranks  # each drops its own; the step's span repeats what one of them says
    return sum(rank.dropped_before for rank in ranks) if ranks else root.dropped_before
