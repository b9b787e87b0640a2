"""Loops with many small records lose none of them: what waits is bounded by memory, and small records take little."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.support.jaeger_query import StoredSpan
from tests.support.otlp_receivers import grpc_receiver
from tests.support.training_program import ENABLED, TRAIN, run, said

EVALUATIONS = f"""{TRAIN}
x = torch.ones(2, 4)
for _ in range(10):
    model.eval()
    with torch.no_grad():
        for _ in range(200):
            model(x)
    model.train()
    train(5)
"""

SHORT_STEPS = f"{TRAIN}\ntrain(3_000)"


def received(tmp_path: Path, program: str) -> tuple[Counter[str], list[list[str]]]:
    """Return how often each span arrived, and the trees of the steps."""
    with grpc_receiver() as receiver:
        variables = {
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
        }
        said(run(tmp_path, program, **ENABLED, **variables))
    roots = receiver.traces()
    names = Counter(span.name for root in roots for span in _walk(root))
    return names, [root.outline() for root in roots if root.name == "train.step"]


def _walk(span: StoredSpan) -> list[StoredSpan]:
    return [span, *(below for child in span.children for below in _walk(child))]


def lengths(steps: list[list[str]]) -> set[int]:
    """Return how many spans the steps have, stretches left out in which the machine did something else."""
    return {sum(name.strip() != "between" for name in step) for step in steps}


def test_evaluations_between_steps_arrive_and_so_do_the_steps(tmp_path: Path) -> None:
    names, steps = received(tmp_path, EVALUATIONS)
    assert (len(steps), names["forward Net"]) == (50, 2_000 + 50)
    assert lengths(steps) == {9}  # modules included


def test_steps_of_half_a_millisecond_arrive(tmp_path: Path) -> None:
    _, steps = received(tmp_path, SHORT_STEPS)
    assert len(steps) == 3_000
    assert lengths(steps) == {9}
