"""A rank of four hangs: all say where they stand, in one trace, and nothing of the job is another when it goes on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

import pytest

from tests.distributed.launch import command, environment, run, wait_until
from tests.distributed.traces import Span, Trace, read

pytestmark = pytest.mark.slow

TIMEOUT_S = 1.0
ALL = (0, 1, 2, 3)
_LINE = re.compile(
    r"No progress for (\d+) s (before|in|in evaluation after) step (\d+), rank (\d): (.*)"
)
_OPEN = r" \(since \d+ s\); "
_PROGRAM = r"stalling.py:\d+( → \w+.py:\d+)*"
_IN_BACKWARD = f"in backward(, after GPT.h.0[\\w.]*)?{_OPEN}{_PROGRAM} → torch/autograd/…\\w+"


class Stall(NamedTuple):
    """What the rank that hangs says, and what the others do."""

    step: int  # in which it hangs
    rank: int
    awaited: int  # the step that all wait for
    late: str
    others: str = _IN_BACKWARD


STALLS = {
    "forward": Stall(3, 2, 3, f"in forward GPT.h.1{_OPEN}{_PROGRAM}"),
    "backward": Stall(5, 1, 5, f"in backward GPT.h.0{_OPEN}{_PROGRAM}"),
    "dataset": Stall(7, 3, 7, f"in dataloader.next{_OPEN}{_PROGRAM}"),
    "barrier": Stall(
        9,
        0,
        10,
        f"outside any phase; {_PROGRAM}",
        f"outside any phase; {_PROGRAM} → torch/distributed/…barrier",
    ),
    "checkpoint": Stall(11, 2, 12, f"outside any phase; {_PROGRAM}"),
    "worker": Stall(13, 1, 13, f"in dataloader.next{_OPEN}{_PROGRAM} → torch/utils/data/…\\w+"),
    "stopped": Stall(15, 2, 15, ""),
    "evaluation": Stall(17, 3, 18, f"in forward GPT.h.1{_OPEN}{_PROGRAM}"),
}


class Job(NamedTuple):
    """What came of the job with all its stalls."""

    losses: str
    log: str
    traces: list[Trace]
    hung: dict[str, float]  # when, seconds since the epoch

    def stall(self, stall: Stall) -> Trace:
        """Return what all ranks have sent first of a stall."""
        return min(
            (
                trace
                for trace in self.traces
                if trace.step == stall.awaited and trace.parentless[0].name == "train.stall"
            ),
            key=lambda trace: trace.parentless[0].end,
        )


def lines(log: str, stall: Stall) -> dict[int, str]:
    """Return what each rank has said first of a stall."""
    found: dict[int, str] = {}
    for said in map(_LINE.search, log.splitlines()):
        if said is not None:
            awaited = int(said[3]) + (said[2] == "in evaluation after")
            if awaited == stall.awaited:
                found.setdefault(int(said[4]), said[5])
    return found


def expected(place: str) -> dict[int, str]:
    """Return what each rank that is alive should say."""
    stall = STALLS[place]
    said = {rank: stall.late if rank == stall.rank else stall.others for rank in ALL}
    if place == "stopped":
        del said[stall.rank]
    return said


@contextmanager
def started(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start the job; its traces, what it logs and what it prints are files of `folder`."""
    variables = environment(
        folder / "traces.jsonl", OTEL_TORCH_MODULES_STALL_TIMEOUT=str(TIMEOUT_S)
    )
    with (folder / "log").open("wb") as errors, (folder / "out").open("wb") as output:
        process = subprocess.Popen(
            command("stalling.py", str(folder)), env=variables, stdout=output, stderr=errors
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("stalls")
    log = folder / "log"

    def all_have_said(place: str) -> bool:
        return lines(log.read_text(), STALLS[place]).keys() == expected(place).keys()

    with started(folder) as process:
        for place, stall in STALLS.items():
            wait_until(lambda place=place: all_have_said(place), process)  # type: ignore[misc]
            (folder / f"{stall.step}.go").touch()
            if place == "stopped":
                os.kill(int((folder / f"{stall.step}.hangs").read_text()), signal.SIGCONT)
        assert process.wait(120) == 0, log.read_text()[-3000:]
    hung = {
        place: (folder / f"{stall.step}.hangs").stat().st_mtime for place, stall in STALLS.items()
    }
    traces = read(folder / "traces.jsonl")
    return Job((folder / "out").read_text(), log.read_text(), traces, hung)


@pytest.mark.parametrize("place", STALLS)
def test_every_rank_says_where_it_stands(job: Job, place: str) -> None:
    said = lines(job.log, STALLS[place])
    wrong = {
        rank: line for rank, line in said.items() if not re.fullmatch(expected(place)[rank], line)
    }
    assert wrong == {}


def test_it_is_said_soon(job: Job) -> None:
    """Time-out and two seconds, as a rule: on a machine with other work a rank may be late."""
    after = [
        rank.end / 1e9 - job.hung[place]
        for place, stall in STALLS.items()
        for rank in job.stall(stall).ranks
    ]
    assert len(after) == sum(len(expected(place)) for place in STALLS)
    assert median(after) <= TIMEOUT_S + 2
    assert max(after) < 30


@pytest.mark.parametrize("place", STALLS)
def test_all_snapshots_are_one_trace(job: Job, place: str) -> None:
    stall = STALLS[place]
    trace = job.stall(stall)
    assert [span.name for span in trace.tops] == ["train.stall"]
    assert [span.name for span in trace.ranks] == [f"rank {rank}" for rank in expected(place)]
    said = lines(job.log, stall)
    for rank in trace.ranks:
        attributes = rank.attributes
        number = int(attributes["torch.distributed.rank"])
        where = attributes["torch.stall.place"] or "outside any phase"
        assert where in said[number]
        assert said[number].endswith(attributes["torch.stall.frames"])
        assert attributes["torch.unfinished"] is True
        assert attributes["torch.stall.reason"] == "no_progress"
        assert 1 <= attributes["torch.stall.duration"] < 30
        assert (
            'Thread MainThread (most recent call last):\n  File "' in attributes["code.stacktrace"]
        )
        (open_path,) = [unfinished(rank)] if where in said[number] else [[]]
        assert (open_path[-1:] != []) is bool(attributes["torch.stall.place"])


def unfinished(rank: Span) -> list[str]:
    """Return the names of the spans below a rank's that had not ended."""
    return [span.name for span in rank.walk() if "torch.unfinished" in span.attributes][1:]


def test_the_tree_goes_as_far_as_the_rank_has_come(job: Job) -> None:
    stall = STALLS["forward"]
    late = job.stall(stall).ranks[stall.rank]
    assert late.outline() == (
        "rank 2\n"
        "  dataloader.next\n"
        "  forward DistributedDataParallel\n"
        "    forward GPT\n"
        "      forward h.0\n"
        "        forward fc\n"
        "        forward act\n"
        "        forward out\n"
        "      forward h.1\n"
    )
    assert unfinished(late) == [
        "forward DistributedDataParallel",
        "forward GPT",
        "forward h.1",
    ]


@pytest.mark.parametrize("place", STALLS)
def test_a_stall_and_its_step_lead_to_each_other(job: Job, place: str) -> None:
    stall = STALLS[place]
    steps = [
        trace
        for trace in job.traces
        if trace.step == stall.awaited and trace.parentless[0].name == "train.step"
    ]
    assert len(steps) == 1
    (of_step,) = steps
    assert [rank.name for rank in of_step.ranks] == [f"rank {rank}" for rank in ALL]
    of_evaluation = next(trace for trace in job.traces if trace.parentless[0].name == "evaluate")
    for rank in job.stall(stall).ranks:
        (link,) = rank.links
        number = int(rank.attributes["torch.distributed.rank"])
        evaluates = place == "evaluation" and number == stall.rank
        target = of_evaluation if evaluates else of_step
        assert link[0] == target.spans[0].trace_id
        assert link[1] in {span.span_id for span in target.spans}
        stalled = target.ranks[number].attributes["torch.step.stalled"]
        assert stalled >= 1


def test_steps_that_got_on_say_nothing(job: Job) -> None:
    awaited = {stall.awaited for stall in STALLS.values()}
    stalled = {
        trace.step
        for trace in job.traces
        for span in trace.spans
        if "torch.step.stalled" in span.attributes and trace.parentless[0].name == "train.step"
    }
    assert stalled == awaited


def test_each_stall_that_is_over_has_a_line_of_that(job: Job) -> None:
    over = re.findall(
        r"It goes on after \d+ s \w+ (?:evaluation after )?step (\d+), rank (\d)", job.log
    )
    told = re.findall(
        r"No progress for 1 s \w+ (?:evaluation after )?step (\d+), rank (\d)", job.log
    )
    assert sorted(over) == sorted(told)


def test_the_losses_are_those_of_the_untraced_job(job: Job, tmp_path: Path) -> None:
    for stall in STALLS.values():
        (tmp_path / f"{stall.step}.go").touch()
    assert run(command("stalling.py", str(tmp_path)), None) == job.losses


def test_a_job_that_is_ended_after_a_snapshot_has_sent_it(tmp_path: Path) -> None:
    file = tmp_path / "traces.jsonl"
    stall = STALLS["forward"]

    def snapshots() -> list[Trace]:
        traces = read(file) if file.exists() else []
        return [
            trace
            for trace in traces
            if trace.parentless and trace.parentless[0].name == "train.stall"
        ]

    with started(tmp_path) as process:
        wait_until(lambda: len(lines((tmp_path / "log").read_text(), stall)) == len(ALL), process)
        wait_until(lambda: [len(trace.ranks) for trace in snapshots()] == [len(ALL)], process)
        process.terminate()
        process.wait(60)
    (trace,) = snapshots()
    assert [span.name for span in trace.tops] == ["train.stall"]
    assert unfinished(trace.ranks[stall.rank])[-1] == "forward h.1"
