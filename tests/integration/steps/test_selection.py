"""What is recorded and what is left out: schedule, phases, modules, depth, shapes, spans per step, sampler."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Sampler, TraceIdRatioBased
from torch import Tensor, nn

from otel_torch_modules import Config, Schedule, trace
from otel_torch_modules.testing import Captured, capture_spans
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


class Deep(nn.Module):
    """Two `Net` in a list, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Net(), Net()])

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


def train_deep(config: Config) -> Captured:
    model = Deep()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans(config) as captured:
        train(model, sgd)
    return captured


def test_a_schedule_leaves_whole_steps_out_and_counts_them() -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    schedule = Schedule(skip_first=1, wait=2, active=1, repeat=2)
    with capture_spans(Config(schedule=schedule)) as captured:
        for _ in range(10):
            train(model, sgd)
    assert outline(captured) == 2 * STEP
    assert [tree.attributes["torch.step"] for tree in captured.trees] == [3, 6]


def test_what_a_schedule_leaves_out_takes_its_evaluation_along() -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans(Config(schedule=Schedule(wait=1, active=1))) as captured:
        for _ in range(4):
            train(model, sgd)
            with torch.no_grad():
                model(batch())
    assert outline(captured) == 2 * (STEP + EVALUATION)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad])
def test_what_leads_to_a_step_is_recorded_with_it_and_left_out_with_it(
    mode: Callable[[], AbstractContextManager[object]],
) -> None:
    model, target = Net(), nn.Identity().eval()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans(Config(schedule=Schedule(wait=1, active=1))) as captured:
        tracer = captured.provider.get_tracer("program")
        target.register_forward_hook(lambda *_: tracer.start_span("inside").end())
        for _ in range(6):
            with mode():
                target(batch())
            train(model, sgd)
    recorded = STEP.replace("  forward Net\n", "  forward Identity\n  forward Net\n")
    # Whether what it makes current will be sent is not known while it runs.
    assert sorted(tree.name for tree in captured.trees) == 6 * ["inside"] + 3 * ["train.step"]
    steps = [tree for tree in captured.trees if tree.name == "train.step"]
    assert "".join(tree.outline() + "\n" for tree in steps) == 3 * recorded
    assert [tree.attributes["torch.step"] for tree in steps] == [1, 3, 5]


@pytest.mark.parametrize(
    ("phases", "expected"),
    [
        (("train",), 2 * STEP),
        (("eval",), 2 * EVALUATION),
        (("train", "eval"), 2 * (STEP + EVALUATION)),
    ],
)
def test_phases(phases: tuple[str, ...], expected: str) -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans(Config(phases=phases)) as captured:
        for _ in range(2):
            train(model, sgd)
            with torch.no_grad():
                model(batch())
    assert outline(captured) == expected


@pytest.mark.parametrize(
    "config",
    [
        Config(exclude=("Net",)),
        Config(exclude=("Deep.blocks.?",)),
        Config(include=("Deep", "Linear", "*.act")),
    ],
)
def test_a_module_left_out_passes_its_children_up(config: Config) -> None:
    expected = """\
train.step
  forward Deep
    forward blocks.0.fc
    forward blocks.0.act
    forward blocks.1.fc
    forward blocks.1.act
  backward
    backward Deep
      backward blocks.1.act
      backward blocks.1.fc
      backward blocks.0.act
      backward blocks.0.fc
  optimizer.step SGD
"""
    assert outline(train_deep(config)) == expected


def test_a_root_left_out_passes_its_children_up_to_the_step() -> None:
    expected = """\
train.step
  forward Deep.blocks.0
  forward Deep.blocks.1
  backward
    backward Deep.blocks.1
    backward Deep.blocks.0
  optimizer.step SGD
"""
    assert outline(train_deep(Config(include=("Net",)))) == expected


def test_an_evaluation_whose_root_is_left_out_still_has_a_root() -> None:
    model = Net()
    with capture_spans(Config(exclude=("Net",))) as captured, torch.no_grad():
        model(batch())
    assert outline(captured) == "forward Net\n  forward Net.fc\n  forward Net.act\n"


def test_where_all_modules_are_left_out_no_node_is_marked_and_the_optimizer_remains() -> None:
    captured = train_deep(Config(exclude=("*",)))
    assert outline(captured) == step(optimizer())


@pytest.mark.parametrize(
    ("depth", "forward", "backward"),
    [
        (1, "forward Deep\n", "backward\n  backward Deep\n"),
        (
            2,
            "forward Deep\n  forward blocks.0\n  forward blocks.1\n",
            "backward\n  backward Deep\n    backward blocks.1\n    backward blocks.0\n",
        ),
    ],
)
def test_depth_ends_a_tree(depth: int, forward: str, backward: str) -> None:
    captured = train_deep(Config(max_depth=depth))
    assert outline(captured) == step(forward, backward, optimizer())


def test_depth_counts_only_modules_that_are_recorded() -> None:
    captured = train_deep(Config(max_depth=2, exclude=("Net",)))
    forward = """\
forward Deep
  forward blocks.0.fc
  forward blocks.0.act
  forward blocks.1.fc
  forward blocks.1.act
"""
    backward = """\
backward
  backward Deep
    backward blocks.1.act
    backward blocks.1.fc
    backward blocks.0.act
    backward blocks.0.fc
"""
    assert outline(captured) == step(forward, backward, optimizer())


def test_shapes_and_dtypes_are_recorded_where_asked_for() -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans(Config(record_shapes=True)) as captured:
        train(model, sgd)
    assert outline(captured) == STEP
    shapes = {
        span.name: {
            name.removeprefix("torch.module."): value
            for name, value in span.attributes.items()
            if "put." in name
        }
        for span in captured.trees[0].walk()
    }
    seen = {
        "input.shapes": ("[2, 4]",),
        "input.dtypes": ("torch.float32",),
        "output.shapes": ("[2, 4]",),
        "output.dtypes": ("torch.float32",),
    }
    assert shapes == {
        "train.step": {},
        "forward Net": seen,
        "forward fc": seen,
        "forward act": seen,
        "backward": {},
        "backward Net": {},
        "backward act": {},
        "backward fc": {},
        "optimizer.step SGD": {},
    }


@pytest.mark.parametrize("most", range(1, 16))
def test_a_step_never_has_more_module_spans_than_allowed(most: int) -> None:
    whole = len(list(train_deep(Config()).trees[0].walk()))
    assert whole == 17  # 7 forward, 7 backward; a step, a backward pass, an optimizer's step
    captured = train_deep(Config(max_spans_per_step=most))
    outline(captured)
    (tree,) = captured.trees
    assert len(list(tree.walk())) == min(most, 14) + 3
    assert tree.attributes.get("torch.step.truncated") == (True if most < 14 else None)


def test_recording_stops_long_before_memory_does() -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans(Config(max_spans_per_step=10)) as captured:
        for _ in range(1_000):
            model(batch()).sum().backward()
        sgd.step()
    steps = [tree for tree in captured.trees if tree.attributes.get("torch.step.truncated")]
    assert steps[0].attributes["torch.step.micro_batches"] == 1_000
    modules = [span for span in steps[0].walk() if "torch.module.fqn" in span.attributes]
    assert len(modules) == 10


@pytest.mark.parametrize(
    ("sampler", "kept"), [(ALWAYS_OFF, 0), (TraceIdRatioBased(0.0), 0), (TraceIdRatioBased(1.0), 3)]
)
def test_the_sampler_of_the_provider_decides_once_for_a_whole_step(
    sampler: Sampler, kept: int
) -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with trace(config=Config(), tracer_provider=provider):
        for _ in range(3):
            train(model, sgd)
    spans = exporter.get_finished_spans()
    assert len(spans) == kept * len(STEP.splitlines())
    assert len({span.context.trace_id for span in spans if span.context}) == kept
    provider.shutdown()


def test_a_sampler_of_half_the_traces_keeps_whole_ones() -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=TraceIdRatioBased(0.5), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with trace(config=Config(), tracer_provider=provider):
        for _ in range(64):
            train(model, sgd)
    by_trace: dict[int, int] = {}
    for span in exporter.get_finished_spans():
        assert span.context is not None
        by_trace[span.context.trace_id] = by_trace.get(span.context.trace_id, 0) + 1
    assert 0 < len(by_trace) < 64
    assert set(by_trace.values()) == {len(STEP.splitlines())}
    provider.shutdown()
