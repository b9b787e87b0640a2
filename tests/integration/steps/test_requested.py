"""Steps that were asked for while the job runs, whatever leaves them out, and those around them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Sampler, TraceIdRatioBased

from otel_torch_modules import Config, Schedule, TorchModuleInstrumentor, trace
from otel_torch_modules._control.request import Request, RunStart
from otel_torch_modules._recording.requests import Requests
from otel_torch_modules.keep import Keep
from otel_torch_modules.testing import Captured, CapturedSpan, capture_spans
from tests.support.small_training import (
    EVALUATION,
    STEP,
    Net,
    batch,
    optimizer,
    outline,
    step,
    train,
)

NEVER = Schedule(skip_first=1_000_000)
PHASES = step("forward Net\n", "backward\n  backward Net\n", optimizer())
STEPS = 7
ASKED = (3, 4)


def requests() -> Requests:
    tracing = TorchModuleInstrumentor()._tracing
    assert tracing is not None
    assert tracing._requests is not None
    return tracing._requests


def ask(modules: str = "all", *, shapes: bool = False, ranks: str = "all") -> None:
    requests().request = Request(
        "1", RunStart("", "0.0", 1), ASKED[0], ASKED[-1], modules, shapes, ranks, "me"
    )


def run(config: Config, modules: str = "all", *, shapes: bool = False, ranks: str = "all") -> Captured:  # fmt: skip
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans(config) as captured:
        for _ in range(STEPS):
            train(model, sgd)
            if requests().request is None:
                ask(modules, shapes=shapes, ranks=ranks)
    return captured


def numbers(trees: list[CapturedSpan]) -> list[object]:
    return [tree.attributes["torch.step"] for tree in trees]


@pytest.mark.parametrize(
    ("leaves_out", "otherwise"),
    [
        ({"schedule": NEVER}, ""),
        ({"phases": ("eval",)}, ""),
        ({"schedule": Schedule(wait=5, active=1)}, STEP),  # step 5
        ({"detail_ranks": "1-7"}, PHASES),
        ({"schedule": NEVER, "phases": ("eval",), "detail_ranks": "1-7"}, ""),
        ({}, STEP),
    ],
)
def test_they_are_recorded_in_full_whatever_leaves_them_out(
    leaves_out: dict[str, object], otherwise: str, tmp_path: Path
) -> None:
    captured = run(Config(control=str(tmp_path), **leaves_out))  # type: ignore[arg-type]
    trees = captured.trees
    asked = [tree for tree in trees if tree.attributes["torch.step"] in ASKED]
    others = [tree for tree in trees if tree not in asked]
    assert [tree.outline() + "\n" for tree in asked] == [STEP] * len(ASKED)
    assert {tree.outline() + "\n" for tree in others} == ({otherwise} - {""})
    assert numbers(asked) == list(ASKED)
    assert {tree.attributes.get("torch.step.kept") for tree in asked} == {"requested"}
    assert {tree.attributes.get("torch.step.kept") for tree in others} <= {None}


def test_they_may_be_asked_for_with_phases_only(tmp_path: Path) -> None:
    assert outline(run(Config(control=str(tmp_path)), "phases")) == (
        3 * STEP + 2 * PHASES + 2 * STEP
    )


@pytest.mark.parametrize(("ranks", "expected"), [("0", STEP), ("1,*/2", STEP), ("1-9", PHASES)])
def test_the_ranks_that_are_not_named_have_phases(
    ranks: str, expected: str, tmp_path: Path
) -> None:
    assert outline(run(Config(control=str(tmp_path), schedule=NEVER), ranks=ranks)) == 2 * expected


@pytest.mark.parametrize(("modules", "expected"), [("all", STEP), ("phases", PHASES)])
def test_where_most_are_sent_with_phases_they_are_sent_as_they_were_asked_for(
    modules: str, expected: str, tmp_path: Path
) -> None:
    config = Config(control=str(tmp_path), keep=Keep(first=1))
    captured = run(config, modules)
    assert outline(captured) == STEP + 2 * PHASES + 2 * expected + 2 * PHASES
    kept = [tree.attributes.get("torch.step.kept") for tree in captured.trees]
    assert kept == ["first", None, None, "requested", "requested", None, None]


@pytest.mark.parametrize("always", [False, True])
def test_shapes_are_in_these_steps_alone(always: bool, tmp_path: Path) -> None:
    captured = run(Config(control=str(tmp_path), record_shapes=always), shapes=True)
    assert outline(captured) == STEPS * STEP
    for tree in captured.trees:
        with_shapes = always or tree.attributes["torch.step"] in ASKED
        for span in tree.walk():
            if span.name.startswith("forward "):
                assert ("torch.module.input.shapes" in span.attributes) is with_shapes
                assert ("torch.module.output.dtypes" in span.attributes) is with_shapes


def test_a_budget_neither_cuts_them_nor_changes_its_mind(tmp_path: Path) -> None:
    """After four steps in full it takes phases: so it does after these."""
    captured = run(Config(control=str(tmp_path), max_overhead=1e-9))
    assert numbers(captured.trees) == list(range(STEPS))
    assert outline(captured) == 5 * STEP + STEP + PHASES
    assert {"torch.step.stride" in captured.trees[index].attributes for index in ASKED} == {False}


@pytest.mark.parametrize(
    ("sampler", "expected"), [(TraceIdRatioBased(0.0), list(ASKED)), (ALWAYS_OFF, [])]
)
def test_a_sampler_that_takes_a_share_does_not_leave_them_out(
    sampler: Sampler, expected: list[int], tmp_path: Path
) -> None:
    provider, exporter = TracerProvider(sampler=sampler), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with trace(tracer_provider=provider, config=Config(control=str(tmp_path))):
        for _ in range(STEPS):
            train(model, sgd)
            if requests().request is None:
                ask()
    spans = [span for span in exporter.get_finished_spans() if span.name == "train.step"]
    assert [(span.attributes or {})["torch.step"] for span in spans] == expected


def test_an_evaluation_after_such_a_step_is_recorded_too(tmp_path: Path) -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans(Config(control=str(tmp_path), schedule=NEVER)) as captured:
        for _ in range(STEPS):
            train(model, sgd)
            with torch.no_grad():
                model(batch())
            if requests().request is None:
                ask()
    assert outline(captured) == 2 * (STEP + EVALUATION)


@pytest.mark.parametrize("option", ["control", "blackbox"])
def test_a_folder_is_where_the_job_began_wherever_it_goes(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    with capture_spans(Config(**{option: "here"})):  # type: ignore[arg-type]
        monkeypatch.chdir(tmp_path / "other")
        deadline = time.monotonic() + 30
        while not (tmp_path / "here" / "rank-0.json").exists():
            assert time.monotonic() < deadline
            train(model, sgd)
    assert list((tmp_path / "other").iterdir()) == []
