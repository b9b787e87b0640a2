"""What a killed job, a full disk or a bad copy leaves of a file: what is lost is said, and which steps it was in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from otel_torch_modules._reading.traces import Traces
from otel_torch_modules.cli.main import main

Write = Callable[..., Path]


class Loss(NamedTuple):
    """How a file of the steps 0, 1 and 2 of three lines each is damaged, and what is left."""

    damage: Callable[[list[str]], str]
    steps: list[int]
    incomplete: list[int]
    told: list[str]


def glued(lines: list[str]) -> str:
    """Return what a disk leaves that was full for a while in the middle of line 5."""
    return "".join([*lines[:4], lines[4][:600], *lines[5:]])


def malformed(lines: list[str], **wrong: Any) -> str:
    request = json.loads(lines[4])
    request["resourceSpans"][0]["scopeSpans"][0]["spans"][3].update(wrong)
    return "".join([*lines[:4], json.dumps(request) + "\n", *lines[5:]])


REQUEST = "{path}: line {} is not an OTLP JSON trace request and was left out"
TORN = "{path}: the last line is cut off and was left out"
MALFORMED = "{path}: 1 span is malformed and was left out"
INCOMPLETE = "{path}: 1 step is incomplete: spans of it were lost"


@pytest.mark.parametrize(
    "loss",
    [
        Loss("".join, [0, 1, 2], [], []),
        Loss(lambda lines: "".join(lines)[:-100], [0, 1, 2], [2], [TORN, INCOMPLETE]),
        # Too little for a span's name: it belongs to what came last before it.
        Loss(
            lambda lines: "".join(lines[:-1]) + '{"resourceSp',
            [0, 1, 2],
            [2],
            [TORN, INCOMPLETE],
        ),
        Loss(
            lambda lines: "".join(lines[:-1]),  # the job was killed between two writes
            [0, 1, 2],
            [],
            [],
        ),
        # Spans of step 1 are in the half line, all of the next line is lost with it.
        Loss(glued, [0, 1, 2], [1], [REQUEST.replace("{}", "5"), INCOMPLETE]),
        Loss(
            lambda lines: "".join(lines[:3] + lines[4:]),  # the line with the root of step 1
            [0, 2],
            [],
            ["{path}: 1 trace has no root and was left out: a part of it was lost"],
        ),
        Loss(
            lambda lines: "".join(["half\n", "half\n", *lines[3:]]),
            [1, 2],
            [],
            [
                "{path}: 2 lines, first line 1, are not OTLP JSON trace requests and were left out",
            ],
        ),
        *(
            Loss(
                lambda lines, wrong=wrong: malformed(lines, **wrong),
                [0, 1, 2],
                [1],
                [MALFORMED, INCOMPLETE],
            )
            for wrong in (
                {"spanId": 7},
                {"spanId": ""},
                {"parentSpanId": ["x"]},
                {"startTimeUnixNano": None},
                {"endTimeUnixNano": float("inf")},
                {"endTimeUnixNano": -1},
                {"endTimeUnixNano": "1" * 30},
                {"name": {}},
                {"attributes": [{"key": "k", "value": {"intValue": "many"}}]},
                {"attributes": {"key": "value"}},
                {"events": [7]},
                {"status": "bad"},
            )
        ),
        # Its children have no parent then, and say so.
        Loss(
            lambda lines: malformed(lines, traceId=None),
            [0, 1, 2],
            [1],
            [MALFORMED, INCOMPLETE],
        ),
    ],
)
def test_a_loss_is_told_and_the_step_that_it_was_in_is_marked(
    loss: Loss, write_traces: Write, step: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_traces(step(0), step(1, 100, wait=20), step(2, 200), per_line=9)
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    assert len(lines) == 9
    path.write_text(loss.damage(lines), encoding="utf-8")

    file = Traces.read(path)
    told = [sentence.format(path=path) for sentence in loss.told]
    assert [step.step for step in file.steps] == loss.steps
    assert [step.step for step in file.steps if step.incomplete] == loss.incomplete
    assert list(file.losses()) == told

    capsys.readouterr()
    assert main(["view", "--list", str(path)]) == 0
    *losses, table = capsys.readouterr().out.split("\n", len(told))
    assert losses == [f"{sentence}." for sentence in told]
    assert ("\n     ✂ 1  " in table) == (1 in loss.incomplete)

    assert main(["doctor", str(path)]) == bool(told)
    summary = capsys.readouterr().out.split("\n\n")[1].splitlines()
    assert summary[1:] == [f"✗ {sentence}" for sentence in told]
    assert (summary[0] == "Nothing is wrong.") == (not told)


def test_an_incomplete_step_is_in_no_median_and_not_the_slowest(
    write_traces: Write, step: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_traces(step(0), step(1, 100, wait=2), step(2, 200, wait=80), per_line=9)
    path.write_text(path.read_text(encoding="utf-8")[:-200], encoding="utf-8")
    assert main(["view", "--list", str(path)]) == 0
    table = capsys.readouterr().out.splitlines()[3:-1]
    assert [line.split()[:3] for line in table] == [
        ["▸", "0", "79.00"],
        ["1", "79.00", "2.5%"],
        ["✂", "2", "157.00"],
        ["median", "79.00", "2.5%"],
    ]


def test_where_all_steps_are_incomplete_there_is_no_median(
    write_traces: Write, step: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_traces(step(0), step(0, 0, wait=80), per_line=9)
    half = path.read_text(encoding="utf-8").replace('"spanId": "000000000000000b"', '"spanId": 11')
    path.write_text(half.replace("000000000000001e", ""), encoding="utf-8")
    assert main(["view", "--list", str(path)]) == 0
    assert "median" not in capsys.readouterr().out


def test_forward_passes_of_a_damaged_trace_are_no_roots(
    write_traces: Write, sample: Any, step: Any
) -> None:
    blocks = tuple(sample(f"forward h.{at}", "forward", at, at + 1) for at in range(4))
    path = write_traces(sample("forward GPT", "forward", 0, 9, blocks), step(0, 50), per_line=2)
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text(lines[0][: len(lines[0]) // 2] + "\n" + "".join(lines[1:]), encoding="utf-8")
    file = Traces.read(path)
    assert (file.outside, file.fragments) == ([], 1)


def test_steps_and_forward_passes_below_a_span_that_went_elsewhere_are_whole(
    write_traces: Write, sample: Any, step: Any
) -> None:
    epoch = sample(
        "epoch", None, 0, 900, (step(0), step(1, 100), sample("forward GPT", "forward", 300, 310))
    )
    path = write_traces(epoch)
    request = json.loads(path.read_text(encoding="utf-8"))
    del request["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    path.write_text(json.dumps(request), encoding="utf-8")
    file = Traces.read(path)
    assert (len(file.steps), len(file.outside), list(file.losses())) == (2, 1, [])


def test_of_one_trace_with_many_steps_only_the_step_that_was_cut_is_incomplete(
    write_traces: Write, sample: Any, step: Any
) -> None:
    steps = tuple(step(index, 100 * index) for index in range(4))
    path = write_traces(sample("epoch", None, 0, 900, steps), per_line=9)
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    lines[5] = lines[5][:1500] + "\n"
    path.write_text("".join(lines), encoding="utf-8")
    marked = [step.step for step in Traces.read(path).steps if step.incomplete]
    assert marked == [1]


def test_parents_in_a_circle_are_no_tree(write_traces: Write, step: Any) -> None:
    path = write_traces(step(0), step(1, 100))
    first, second = path.read_text(encoding="utf-8").splitlines()
    request = json.loads(second)
    spans = request["resourceSpans"][0]["scopeSpans"][0]["spans"]
    spans[0]["parentSpanId"] = spans[-1]["spanId"]
    path.write_text(f"{first}\n{json.dumps(request)}\n", encoding="utf-8")
    file = Traces.read(path)
    assert [step.step for step in file.steps] == [0]
    assert list(file.losses()) == [
        f"{path}: 1 trace has no root and was left out: a part of it was lost"
    ]
