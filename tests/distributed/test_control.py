"""Four ranks are asked for steps while they train: all record the same ones, and train as if nobody had asked."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from otel_torch_modules._control import files
from otel_torch_modules._control.report import NOTHING, Report
from tests.distributed.launch import command, run, start, wait_until
from tests.distributed.traces import Trace, read

pytestmark = pytest.mark.slow

RANKS = (0, 1, 2, 3)
ASKED_IN_FULL = (0, 2)
STEPS = 3


class Job:
    """A job that goes on until it is told to end, with everything left out.

    Args:
        folder: for its files.
    """

    def __init__(self, folder: Path) -> None:
        self.control = folder / "control"
        self.traces = folder / "traces.jsonl"
        self._stop = folder / "stop"
        self._process = start(
            command("going_on.py", str(self._stop)),
            self.traces,
            OTEL_TORCH_MODULES_CONTROL=str(self.control),
            OTEL_TORCH_MODULES_SCHEDULE="skip_first=1000000000",
            OTEL_TORCH_MODULES_RUN_ID="night 3",
        )
        self.wait_until(lambda: len(self.reports()) == len(RANKS))

    def reports(self) -> list[Report]:
        found = sorted(self.control.glob("rank-*.json"))
        return [Report.of(files.read(path)) for path in found]

    def wait_until(self, condition: Callable[[], bool]) -> None:
        wait_until(condition, self._process)

    def end(self) -> list[list[float]]:
        """End it and return the losses of all ranks."""
        self._stop.touch()
        said, complained = self._process.communicate(timeout=120)
        assert self._process.returncode == 0, complained[-3_000:]
        losses: list[list[float]] = json.loads(said)
        return losses

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


class Recorded:
    """What was said, and what was found when the job had ended."""

    out: str
    code: int
    after: list[Report]
    losses: list[list[float]]
    left: list[str]
    traces: list[Trace]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Ask a job for a few steps, and let it go on for a while."""
    job = Job(tmp_path_factory.mktemp("job"))
    found = Recorded()
    try:
        asking = subprocess.run(
            [
                sys.executable, "-m", "otel_torch_modules", "record", str(job.control),
                "--steps", str(STEPS), "--shapes", "--ranks", ",".join(map(str, ASKED_IN_FULL)),
            ],
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        found.out, found.code = asking.stdout + asking.stderr, asking.returncode
        step = max(report.step for report in job.reports())
        job.wait_until(lambda: min(report.step for report in job.reports()) > step)
        found.after = job.reports()
        found.losses = job.end()
    finally:
        job.kill()
    found.left = sorted(path.name for path in job.control.iterdir())
    found.traces = read(job.traces)
    return found


def test_all_ranks_record_the_same_steps_and_no_others(recorded: Recorded) -> None:
    assert recorded.code == 0, recorded.out
    steps = [trace.step for trace in recorded.traces]
    first = steps[0]
    assert first is not None
    assert steps == list(range(first, first + STEPS))
    for trace in recorded.traces:
        assert [span.attributes["torch.distributed.rank"] for span in trace.ranks] == list(RANKS)
        assert [span.name for span in trace.tops] == ["train.step"]
        for span in (*trace.tops, *trace.ranks):
            assert span.attributes["torch.step.kept"] == "requested"


def test_the_ranks_that_were_named_have_modules_with_shapes(recorded: Recorded) -> None:
    for trace in recorded.traces:
        for number, rank in enumerate(trace.ranks):
            forward = rank.find("forward DistributedDataParallel")
            in_full = number in ASKED_IN_FULL
            assert len([span for span in forward.walk() if span.name == "forward fc"]) == (
                2 if in_full else 0
            )
            assert ("torch.module.output.shapes" in forward.attributes) is in_full


def test_it_is_said_which_steps_they_are_and_where(recorded: Recorded) -> None:
    first = recorded.traces[0].step
    assert first is not None
    lines = recorded.out.splitlines()
    named = f"{STEPS} steps, {first} to {first + STEPS - 1}"
    assert (
        f"Asked for {named}, with modules and shapes on ranks 0,2, phases on the others." in lines
    )
    assert f"Steps {first} to {first + STEPS - 1} are recorded on ranks 0, 1, 2, 3." in lines
    for trace in recorded.traces:
        assert f"  step {trace.step}  trace {trace.spans[0].trace_id}" in lines
    assert lines[-1].startswith(f"Jaeger: tag torch.step={first}, ")


def test_afterwards_all_is_as_before(recorded: Recorded) -> None:
    assert [report.recorded for report in recorded.after] == [NOTHING] * len(RANKS)
    assert [report.answer and report.answer.said for report in recorded.after] == ["done"] * 4
    assert recorded.left == []


def test_the_job_trains_as_if_nobody_had_asked(recorded: Recorded, tmp_path: Path) -> None:
    steps = len(recorded.losses[0])
    alone = json.loads(run(command("going_on.py", str(tmp_path / "stop"), str(steps)), None))
    assert recorded.losses == alone
