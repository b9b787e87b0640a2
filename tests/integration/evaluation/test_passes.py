"""Root forwards outside any step: those of one pass are one trace."""

from __future__ import annotations

import threading
from itertools import pairwise
from textwrap import indent

import pytest
import torch
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler, SamplingResult

import otel_torch_modules
from otel_torch_modules import Config
from otel_torch_modules._recording.loop import evaluations, held_evaluations
from otel_torch_modules.testing import capture_spans
from tests.support.small_training import (
    BACKWARD,
    FORWARD,
    STEP,
    Net,
    batch,
    evaluation,
    loader,
    optimizer,
    outline,
    step,
    train,
)

WAIT = "dataloader.next\n"


def infer(model: Net, times: int = 1) -> None:
    with torch.no_grad():
        for _ in range(times):
            model(batch())


def test_forwards_in_a_row_are_one_trace(model: Net, sgd: torch.optim.SGD) -> None:
    with capture_spans() as captured:
        train(model, sgd)
        train(model, sgd)
        infer(model, 3)
        train(model, sgd)
    assert outline(captured) == 2 * STEP + evaluation(3 * FORWARD) + STEP
    root = captured.trees[2]
    assert root.span.kind is trace.SpanKind.INTERNAL
    assert root.attributes == {
        "torch.phase": "evaluate",
        "torch.step": 1,
        "torch.evaluate.forwards": 3,
    }


def test_a_pass_has_its_waits_for_data_and_begins_at_the_first(
    model: Net, sgd: torch.optim.SGD
) -> None:
    with capture_spans() as captured:
        for _ in range(2):
            for inputs in loader(2):
                model(inputs).sum().backward()
                sgd.step()
            with torch.no_grad():
                for inputs in loader(3):
                    model(inputs)
    with_wait = STEP.replace("train.step\n", "train.step\n  dataloader.next\n")
    epoch = 2 * with_wait + evaluation(3 * (WAIT + FORWARD))
    assert outline(captured) == 2 * epoch
    for before, after in pairwise(captured.trees):
        assert after.start == before.end
        assert after.start <= after.children[0].start


def test_an_evaluation_loader_that_is_left_keeps_its_waits(
    model: Net, sgd: torch.optim.SGD
) -> None:
    with capture_spans() as captured:
        train(model, sgd)
        with torch.no_grad():
            for place, inputs in enumerate(loader(5)):
                model(inputs)
                if place == 1:
                    break
        for inputs in loader(1):
            model(inputs).sum().backward()
            sgd.step()
    with_wait = STEP.replace("train.step\n", "train.step\n  dataloader.next\n")
    assert outline(captured) == STEP + evaluation(2 * (WAIT + FORWARD)) + with_wait


def test_the_wait_before_a_generation_is_the_steps(model: Net, sgd: torch.optim.SGD) -> None:
    with capture_spans() as captured:
        train(model, sgd)
        for inputs in loader(2):
            infer(model, 4)
            model(inputs).sum().backward()
            sgd.step()
    names = [tree.name for tree in captured.trees]
    assert sorted(names) == ["evaluate"] * 2 + ["train.step"] * 3
    assert [tree.outline() + "\n" for tree in captured.trees if tree.name == "evaluate"] == 2 * [
        evaluation(4 * FORWARD)
    ]
    waits = [
        len(tree.find("dataloader.next")) for tree in captured.trees if tree.name != "evaluate"
    ]
    assert waits == [0, 1, 1]


def test_before_any_training_each_forward_is_a_trace(model: Net) -> None:
    with capture_spans() as captured:
        infer(model, 3)
    assert outline(captured) == 3 * FORWARD
    assert [tree.attributes["torch.phase"] for tree in captured.trees] == 3 * ["forward"]


def test_a_pause_ends_a_pass(
    model: Net, sgd: torch.optim.SGD, monkeypatch: pytest.MonkeyPatch
) -> None:
    with capture_spans() as captured:
        train(model, sgd)
        infer(model, 2)
        monkeypatch.setattr(evaluations, "PAUSE", -1)
        infer(model)
    assert outline(captured) == STEP + evaluation(2 * FORWARD) + evaluation(FORWARD)


def test_a_pass_leaves_on_its_own(
    model: Net, sgd: torch.optim.SGD, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrived = threading.Event()

    class Exporter(InMemorySpanExporter):
        def export(self, spans):  # type: ignore[no-untyped-def]
            result = super().export(spans)
            if any(span.name == "evaluate" for span in spans):
                arrived.set()
            return result

    exporter = Exporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with otel_torch_modules.trace(config=Config(), tracer_provider=provider):
        train(model, sgd)
        infer(model, 2)
        for kind in (evaluations, held_evaluations):
            monkeypatch.setattr(kind, "PAUSE", -1)
        assert arrived.wait(30)
        infer(model, 1)
    roots = [span for span in exporter.get_finished_spans() if span.name == "evaluate"]
    assert [span.attributes["torch.evaluate.forwards"] for span in roots] == [2, 1]
    provider.shutdown()


def test_the_programs_span_ends_a_pass_and_is_its_parent(model: Net, sgd: torch.optim.SGD) -> None:
    with capture_spans() as captured:
        train(model, sgd)
        tracer = captured.provider.get_tracer("requests")
        for _ in range(2):
            with tracer.start_as_current_span("request"):
                infer(model, 2)
        infer(model, 1)
    request = "request\n" + indent(evaluation(2 * FORWARD), "  ")
    assert outline(captured) == STEP + 2 * request + evaluation(FORWARD)


def test_spans_inside_a_forward_land_there_and_those_between_beside(
    model: Net, sgd: torch.optim.SGD
) -> None:
    with capture_spans() as captured:
        tracer = captured.provider.get_tracer("program")
        model.act.register_forward_hook(lambda *_: tracer.start_span("inside").end())
        train(model, sgd)
        infer(model)
        tracer.start_span("between").end()
        assert not trace.get_current_span().get_span_context().is_valid
        infer(model)
    forward = FORWARD + "    inside\n"
    assert outline(captured) == (
        STEP.replace("    forward act\n", "    forward act\n      inside\n")
        + evaluation(forward, forward)
        + "between\n"
    )


class _Counting(Sampler):
    def __init__(self) -> None:
        self.asked: list[str] = []

    def should_sample(self, *args, **kwargs) -> SamplingResult:  # type: ignore[no-untyped-def]
        self.asked.append(args[2])
        return ALWAYS_ON.should_sample(*args, **kwargs)

    def get_description(self) -> str:
        return "counting"


def test_the_sampler_is_asked_once_for_a_pass(model: Net, sgd: torch.optim.SGD) -> None:
    sampler = _Counting()
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(InMemorySpanExporter()))
    with otel_torch_modules.trace(config=Config(), tracer_provider=provider):
        train(model, sgd)
        infer(model, 5)
        train(model, sgd)
    provider.shutdown()
    assert sampler.asked == ["train.step", "evaluate", "train.step"]


def test_a_pass_without_end_is_bounded(
    model: Net, sgd: torch.optim.SGD, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluations, "MOST_SPANS", 9)
    with capture_spans() as captured:
        train(model, sgd)
        infer(model, 20)
        train(model, sgd)
    bare = "forward Net\n"
    # Three forwards with their modules, and as many spans again of roots alone.
    assert outline(captured) == STEP + evaluation(3 * FORWARD, 9 * bare) + STEP
    root = captured.trees[1]
    assert root.attributes["torch.step.truncated"] is True
    assert root.attributes["torch.evaluate.forwards"] == 20


def test_passes_alike_are_sent_alike(model: Net, sgd: torch.optim.SGD) -> None:
    """The same tree whether it is read or laid out as one before it."""
    with capture_spans() as captured:
        for _ in range(6):
            train(model, sgd)
            infer(model, 3)
    assert outline(captured) == 6 * (STEP + evaluation(3 * FORWARD))
    passes = [tree for tree in captured.trees if tree.name == "evaluate"]
    assert [tree.attributes["torch.step"] for tree in passes] == list(range(6))
    for tree in passes:
        first, *others = [
            {key: value for key, value in child.attributes.items() if key != "torch.self_time"}
            for child in tree.children
        ]
        assert others == 2 * [first]


def test_a_forward_that_fails_is_told_on_the_pass(model: Net, sgd: torch.optim.SGD) -> None:
    with capture_spans() as captured:
        train(model, sgd)
        infer(model)
        with pytest.raises(RuntimeError), torch.no_grad():
            model(torch.ones(2, 3))
        infer(model)
        train(model, sgd)
    broken = "forward Net\n  forward fc\n"
    assert outline(captured) == STEP + evaluation(FORWARD, broken, FORWARD) + STEP
    root = captured.trees[1]
    assert [span.span.status.status_code.name for span in (root, *root.children)] == [
        "ERROR",
        "UNSET",
        "ERROR",
        "UNSET",
    ]


def test_training_is_the_same_bit_for_bit() -> None:
    def run() -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = Net()
        sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        seen = []
        for _ in range(4):
            train(model, sgd)
            with torch.no_grad():
                seen += [model(torch.randn(2, 4)) for _ in range(3)]
        return [*seen, *(parameter.detach() for parameter in model.parameters())]

    untraced = run()
    with capture_spans():
        traced = run()
    assert all(torch.equal(a, b) for a, b in zip(untraced, traced, strict=True))


def test_a_step_by_hand_ends_a_pass(model: Net, sgd: torch.optim.SGD) -> None:
    with capture_spans() as captured:
        for index in range(2):
            with otel_torch_modules.step(index):
                train(model, sgd)
            infer(model, 2)
    assert outline(captured) == 2 * (STEP + evaluation(2 * FORWARD))


def test_a_teacher_inside_a_step_stays_there(model: Net, sgd: torch.optim.SGD) -> None:
    teacher = Net()
    with capture_spans() as captured:
        for _ in range(2):
            loss = model(batch())
            infer(teacher)
            loss.sum().backward()
            sgd.step()
    assert outline(captured) == 2 * step(
        FORWARD, FORWARD.replace("Net", "Net_1"), BACKWARD, optimizer()
    )
