"""Files of OTLP JSON lines are read back as trees; faulty ones are named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from otel_torch_modules._reading.source_error import SourceError
from otel_torch_modules._reading.traces import Traces
from otel_torch_modules._trace import Span

Write = Callable[..., Path]

ALIEN = "{path} holds 1 span, but neither a training step nor a forward pass"


def outline(span: Span) -> Any:
    return (span.name, span.phase, [outline(child) for child in span.children])


def test_spans_of_a_trace_may_stand_in_any_lines(write_traces: Write, step: Any) -> None:
    whole = Traces.read(write_traces(step(0), step(1, 100)))
    path = write_traces(step(0), step(1, 100), per_line=3)
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    assert len(lines) > 8
    path.write_text("\n".join(reversed(lines)), encoding="utf-8")
    scattered = Traces.read(path)
    assert [*map(outline, scattered.steps)] == [*map(outline, whole.steps)]
    assert [step.step for step in scattered.steps] == [0, 1]
    assert outline(whole.steps[0]) == (
        "train.step",
        "step",
        [
            ("dataloader.next", "data", []),
            (
                "forward GPT",
                "forward",
                [
                    (
                        f"forward h.{block}",
                        "forward",
                        [(f"forward {part}", "forward", []) for part in ("ln", "attn", "mlp")],
                    )
                    for block in (0, 1)
                ],
            ),
            (
                "backward",
                "backward",
                [
                    (
                        "backward GPT",
                        "backward",
                        [
                            (
                                "backward h.1",
                                "backward",
                                [
                                    (
                                        "recompute h.1",
                                        "recompute",
                                        [
                                            (f"recompute {part}", "recompute", [])
                                            for part in ("ln", "attn", "mlp")
                                        ],
                                    )
                                ],
                            ),
                            (
                                "backward h.0",
                                "backward",
                                [
                                    (f"backward {part}", "backward", [])
                                    for part in ("ln", "attn", "mlp")
                                ],
                            ),
                        ],
                    )
                ],
            ),
            ("optimizer.step AdamW", "optimizer", []),
        ],
    )


def test_what_is_known_of_a_span(write_traces: Write, sample: Any) -> None:
    attributes = {"torch.step": 3, "flag": True, "sizes": [1, 2], "text": "x"}
    failed = sample(
        "train.step", "step", 0, 1.5, attributes=attributes, exception=("ValueError", "bad")
    )
    (span,) = Traces.read(write_traces(failed)).steps
    assert (span.trace_id, span.span_id, span.parent_id) == ("0" * 31 + "1", "0" * 15 + "1", "")
    assert span.attributes == {**attributes, "torch.phase": "step"}
    assert (span.process, span.failed, span.exception) == ("job-1", True, "ValueError: bad")
    assert span.duration == 1_500_000


def test_steps_below_a_span_of_the_program_and_forwards_outside_steps(
    write_traces: Write, sample: Any
) -> None:
    steps = tuple(
        sample("train.step", "step", at, at + 5, attributes={"torch.step": at}) for at in (10, 20)
    )
    epoch = sample("epoch", None, 0, 40, steps)
    evaluation = sample("forward GPT", "forward", 50, 60)
    read = Traces.read(write_traces(evaluation, epoch, sample("download", None, 0, 1)))
    assert [step.step for step in read.steps] == [10, 20]
    assert [*map(outline, read.outside)] == [("forward GPT", "forward", [])]


def test_a_span_that_was_sent_twice_counts_once(write_traces: Write, step: Any) -> None:
    path = write_traces(step(0))
    once = Traces.read(path)
    path.write_text(path.read_text(encoding="utf-8") * 2, encoding="utf-8")
    assert [*map(outline, Traces.read(path).steps)] == [*map(outline, once.steps)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "{path} is empty: no trace has been written to it yet"),
        ("\n\n", "{path} is empty: no trace has been written to it yet"),
        ("epoch 1\n", "{path}: line 1 is not an OTLP JSON trace request"),
        ("epoch 1", "{path}: line 1 is not an OTLP JSON trace request"),
        ('{{"loss": 1}}\n', "{path}: line 1 is not an OTLP JSON trace request"),
        ("[1]\n", "{path}: line 1 is not an OTLP JSON trace request"),
        (
            "half\n{alien}\n",
            ALIEN + " ({path}: line 1 is not an OTLP JSON trace request and was left out)",
        ),
        ("{alien}\n", ALIEN),
    ],
)
def test_a_file_that_cannot_be_shown_is_named(
    write_traces: Write, sample: Any, step: Any, content: str, message: str
) -> None:
    good = write_traces(step(0)).read_text(encoding="utf-8").strip()
    alien = write_traces(sample("GET /", None, 0, 1)).read_text(encoding="utf-8").strip()
    path = write_traces()
    path.write_text(content.format(good=good, alien=alien), encoding="utf-8")
    with pytest.raises(SourceError) as caught:
        Traces.read(path)
    assert str(caught.value) == message.format(path=path)


def test_a_request_without_spans_is_no_fault(write_traces: Write, step: Any) -> None:
    path = write_traces(step(0))
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"resourceSpans": []}) + "\n")
    assert len(Traces.read(path).steps) == 1


@pytest.mark.parametrize(
    ("name", "reason"), [("none.jsonl", "No such file or directory"), ("", "Is a directory")]
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(SourceError) as caught:
        Traces.read(tmp_path / name)
    assert str(caught.value) == f"{tmp_path / name} cannot be read: {reason}"
