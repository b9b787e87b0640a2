"""What a run's time goes to besides its steps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from otel_torch_modules._reading.traces import Traces
from otel_torch_modules.cli.main import main
from otel_torch_modules.cli.run_coverage import coverage

Write = Callable[..., Path]
Make = Callable[[type[Any]], list[Any]]


def step(sample: Any, index: int, start: float, end: float, *children: Any) -> Any:
    return sample("train.step", "step", start, end, children, {"torch.step": index})


STALLED = {"torch.stall.reason": "no_progress", "torch.step": 1}


def stall(sample: Any, start: float, end: float, *children: Any) -> Any:
    return sample("train.stall", "stall", start, end, children, STALLED)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda s: [step(s, 0, 0, 500), step(s, 1, 500, 1000)], None),
        (lambda s: [step(s, 0, 0, 500), step(s, 1, 550, 1000)], None),
        (
            lambda s: [step(s, 0, 0, 100), step(s, 1, 900, 1000)],
            "The steps cover 20.0% of 1.00 s; the rest: between steps 80.0%.",
        ),
        (  # as in reinforcement learning: most of the time goes to sampling
            lambda s: [
                s(
                    "evaluate",
                    "evaluate",
                    0,
                    600,
                    (s("dataloader.next", "data", 0, 50),),
                    {"torch.evaluate.forwards": 3},
                ),
                step(s, 0, 650, 900),
                s("forward GPT", "forward", 900, 940),
                s("dataloader.next", "data", 940, 1000),
            ],
            "The steps cover 25.0% of 1.00 s; "
            "the rest: evaluation 64.0%, waits for data 6.0%, between steps 5.0%.",
        ),
        (  # what the program names itself; what holds steps only holds them
            lambda s: [
                s(
                    "epoch",
                    None,
                    0,
                    1000,
                    (
                        step(s, 0, 0, 400),
                        s("validate", None, 400, 700, (s("forward A", "forward", 450, 650),)),
                        s("save_checkpoint", None, 700, 900),
                        step(s, 1, 900, 1000),
                    ),
                )
            ],
            "The steps cover 50.0% of 1.00 s; "
            "the rest: evaluation 20.0%, save_checkpoint 20.0%, between steps 10.0%.",
        ),
        (
            lambda s: [
                step(s, 0, 0, 500),
                *(s(f"part {n}", None, 500 + 100 * n, 590 + 100 * n - 10 * n) for n in range(5)),
            ],
            "The steps cover 52.6% of 0.95 s; the rest: other spans 11.6%, between steps 10.5%, "
            "part 0 9.5%, part 1 8.4%, part 2 7.4%.",
        ),
        (  # a schedule that records one step in a hundred
            lambda s: [step(s, 0, 0, 100), step(s, 100, 900, 1000), step(s, 101, 1100, 1200)],
            "The steps cover 25.0% of 1.20 s; "
            "the rest: steps that are not here 66.7%, between steps 8.3%.",
        ),
        (lambda s: [s("forward A", "forward", 0, 100), s("forward A", "forward", 900, 950)], None),
        (  # a step that overlaps an evaluation in another thread
            lambda s: [step(s, 0, 0, 500), s("evaluate", "evaluate", 400, 1000)],
            "The steps cover 50.0% of 1.00 s; the rest: evaluation 50.0%.",
        ),
        (  # what takes time beside modules counts as that, where it lies in no step
            lambda s: [
                step(s, 0, 0, 500, s("python.gc", "gc", 100, 200)),
                s("evaluate", "evaluate", 500, 900, (s("python.gc", "gc", 500, 800),)),
                s("checkpoint.save", "checkpoint", 900, 1000, (s("compile", "compile", 940, 960),)),
            ],
            "The steps cover 50.0% of 1.00 s; the rest: garbage collection 30.0%, "
            "evaluation 10.0%, checkpoints 8.0%, compilation 2.0%.",
        ),
        (  # a stall that goes on, each time with a copy of what is open
            lambda s: [
                step(s, 0, 0, 200),
                stall(s, 200, 400, s("forward A", "forward", 210, 400)),
                stall(s, 200, 1000, s("forward A", "forward", 210, 1000)),
            ],
            "The steps cover 20.0% of 1.00 s; the rest: stalls 80.0%.",
        ),
        (  # one that was over: its step has the time
            lambda s: [
                step(s, 0, 0, 200),
                stall(s, 200, 600, s("dataloader.next", "data", 210, 600)),
                step(s, 1, 200, 700),
                s("evaluate", "evaluate", 700, 1000),
            ],
            "The steps cover 70.0% of 1.00 s; the rest: evaluation 30.0%.",
        ),
        (  # of several ranks, which are in one process here
            lambda s: [
                step(s, 0, 0, 200),
                stall(
                    s,
                    200,
                    900,
                    *(
                        s(
                            f"rank {rank}",
                            "rank",
                            200,
                            900 + 50 * rank,
                            (s("evaluate", "evaluate", 200, 900),),
                            {**STALLED, "torch.distributed.rank": rank},
                        )
                        for rank in range(2)
                    ),
                ),
                step(s, 1, 950, 1000),
            ],
            "The steps cover 25.0% of 1.00 s; the rest: stalls 75.0%.",
        ),
        (  # of which the span of the rank is there alone
            lambda s: [
                step(s, 0, 0, 200),
                s("rank 1", "rank", 200, 1000, (), {**STALLED, "torch.distributed.rank": 1}),
            ],
            "The steps cover 20.0% of 1.00 s; the rest: stalls 80.0%.",
        ),
    ],
)
def test_what_fills_the_time_is_said(
    make: Make, said: str | None, write_traces: Write, sample: type[Any]
) -> None:
    assert coverage(Traces.read(write_traces(*make(sample))).roots) == said


def test_processes_are_taken_each_by_itself(
    write_traces: Write, sample: type[Any], tmp_path: Path
) -> None:
    first = write_traces(step(sample, 0, 0, 300), step(sample, 1, 300, 600))
    first = first.rename(tmp_path / "first.jsonl")
    # Started again much later, with the same file.
    later = write_traces(step(sample, 0, 90_000, 90_100), step(sample, 1, 90_300, 90_400))
    again = (
        later.read_text().replace("job-1", "job-2").replace('"000000000000000000', '"1' + 17 * "0")
    )
    first.write_text(first.read_text() + again)
    assert coverage(Traces.read(first).roots) == (
        "The steps cover 80.0% of 1.00 s; the rest: between steps 20.0%."
    )


def test_each_rank_has_a_process_of_its_own(
    write_traces: Write, sample: type[Any], tmp_path: Path
) -> None:
    def rank(number: int, index: int, start: float, end: float) -> Any:
        about = {"torch.step": index, "torch.distributed.rank": number}
        return sample(f"rank {number}", "rank", start, end, (), about)

    ranks = [
        step(
            sample, index, at, at + 400, rank(0, index, at, at + 400), rank(1, index, at, at + 200)
        )
        for index, at in enumerate((0, 400))
    ]
    path = write_traces(*ranks)
    requests = []
    for line in path.read_text().splitlines():
        request = json.loads(line)
        (of_resource,) = request["resourceSpans"]
        *shared, other = of_resource["scopeSpans"][0]["spans"]
        of_resource["scopeSpans"][0]["spans"] = shared
        requests += [json.dumps(request)]
        of_resource["scopeSpans"][0]["spans"] = [other]
        requests += [json.dumps(request).replace("job-1", "job-2")]
    path.write_text("\n".join(requests))
    assert coverage(Traces.read(path).roots) == (
        "The steps cover 85.7% of 1.40 s; the rest: between steps 14.3%."
    )


def test_it_stands_below_the_table(
    write_traces: Write, sample: type[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_traces(
        sample("evaluate", "evaluate", 0, 600, (), {"torch.evaluate.forwards": 9}),
        step(sample, 0, 600, 800),
        step(sample, 1, 800, 1000),
    )
    assert main(["view", "--list", str(path)]) == 0
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "1 evaluation of 9 forward passes outside a step: 600.00 ms in all, 600.00 ms at",
        "most.",
        "The steps cover 40.0% of 1.00 s; the rest: evaluation 60.0%.",
    ]
