"""What the program says of the current span arrives at ours: attributes, events, exceptions, log records."""

from __future__ import annotations

import gc
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from opentelemetry import trace
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.trace import StatusCode
from torch import Tensor, nn

from otel_torch_modules import step
from otel_torch_modules._notes import MOST
from otel_torch_modules.testing import Captured, CapturedSpan, capture_spans
from tests.support.small_training import STEP, Net, batch, outline
from tests.support.training_program import ENABLED, TRAIN, run, said, traces


class Speaking(nn.Module):
    """Says something of the current span around a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.log: list[str] = []

    def forward(self, x: Tensor) -> Tensor:
        trace.get_current_span().set_attribute("before", 1)
        x = self.fc(x)
        span = trace.get_current_span()
        span.set_attributes({"after": (1, 2), "before": 2})
        span.add_event("half way", {"depth": 3})
        try:
            raise KeyError("caught")
        except KeyError as error:
            span.record_exception(error)
        logging.getLogger("program").warning("in forward")
        return x


def one_step(model: nn.Module) -> CapturedSpan:
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans() as captured:
        output = model(batch())
        trace.get_current_span().set_attribute("loss", 2.5)
        trace.get_current_span().add_event("loss known")
        output.sum().backward()
        sgd.step()
    outline(captured)
    (tree,) = captured.trees
    return tree


def own_attributes(span: CapturedSpan) -> dict[str, Any]:
    return {
        name: value
        for name, value in span.attributes.items()
        if not name.startswith(("torch.", "code."))
    }


def test_attributes_go_to_the_innermost_open_span() -> None:
    tree = one_step(Speaking())
    assert [(span.name, own_attributes(span)) for span in tree.walk()] == [
        ("train.step", {"loss": 2.5}),
        ("forward Speaking", {"before": 2, "after": (1, 2)}),
        ("forward fc", {}),
        ("backward", {}),
        ("backward Speaking", {}),
        ("backward fc", {}),
        ("optimizer.step SGD", {}),
    ]


def test_events_lie_at_their_time_inside_their_span() -> None:
    tree = one_step(Speaking())
    events = {
        span.name: [event.name for event in span.span.events]
        for span in tree.walk()
        if span.span.events
    }
    assert events == {
        "train.step": ["loss known"],
        "forward Speaking": ["half way", "exception"],
    }
    (forward,) = tree.find("forward Speaking")
    half_way, exception = forward.span.events
    assert forward.children[0].end <= half_way.timestamp <= exception.timestamp <= forward.end
    assert dict(half_way.attributes or {}) == {"depth": 3}
    attributes = dict(exception.attributes or {})
    assert attributes["exception.type"] == "KeyError"
    assert attributes["exception.message"] == "'caught'"
    assert "raise KeyError" in str(attributes["exception.stacktrace"])
    assert forward.span.status.status_code is StatusCode.UNSET


def say_much(iteration: int) -> None:
    span = trace.get_current_span()
    span.set_attributes({"loss": iteration, "run": "first"})
    span.set_attribute(f"loss of {iteration}", 0)
    span.add_event(f"iteration {iteration}")
    span.update_name(f"train {iteration}")


def test_what_is_said_again_and_again_in_one_step_does_not_grow() -> None:
    last = 4 * MOST
    with capture_spans() as captured, step(0):
        trace.get_current_span().add_event("begun")
        for iteration in range(last // 2):
            say_much(iteration)
        gc.collect()
        before = len(gc.get_objects())
        for iteration in range(last // 2, last + 1):
            say_much(iteration)
        gc.collect()
        after = len(gc.get_objects())
    assert after - before < MOST  # 18 000 where each is kept
    (tree,) = captured.trees
    assert tree.span.name == f"train {last}"
    attributes = own_attributes(tree)
    assert attributes["loss"] == last
    assert attributes["run"] == "first"
    assert attributes[f"loss of {last}"] == 0
    events = [event.name for event in tree.span.events]
    assert events == [f"iteration {last - back}" for back in reversed(range(len(events)))]
    assert len(events) == 128


def test_status_name_and_links_can_be_set() -> None:
    class Renaming(nn.Module):
        def __init__(self, other: trace.SpanContext) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)
            self._other = other

        def forward(self, x: Tensor) -> Tensor:
            span = trace.get_current_span()
            span.update_name("renamed")
            span.set_status(StatusCode.ERROR, "on purpose")
            span.add_link(self._other)
            return self.fc(x)

    with capture_spans() as captured, torch.no_grad():
        other = captured.provider.get_tracer("program").start_span("other")
        Renaming(other.get_span_context()).eval()(batch())
    (tree,) = captured.trees
    assert tree.outline() == "renamed\n  forward fc"
    assert (tree.span.status.status_code, tree.span.status.description) == (
        StatusCode.ERROR,
        "on purpose",
    )
    assert [link.context for link in tree.span.links] == [other.get_span_context()]


def test_the_current_span_is_recording_and_knows_its_trace() -> None:
    seen: list[trace.SpanContext] = []

    class Looking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            span = trace.get_current_span()
            assert span.is_recording()
            seen.append(span.get_span_context())
            seen.append(span.get_span_context())
            x = self.fc(x)
            seen.append(trace.get_current_span().get_span_context())
            return x

    tree = one_step(Looking())
    (forward,) = tree.find("forward Looking")
    assert seen == [forward.span.context] * 3
    assert forward.span.context is not None
    assert forward.span.context.trace_flags == trace.TraceFlags.SAMPLED | (
        forward.span.context.trace_flags & 2
    )


def records_of(captured: Captured, exporter: InMemoryLogRecordExporter) -> list[tuple[str, str]]:
    """Return each log record's text with the name of the span that it names."""
    names = {
        (span.context.trace_id, span.context.span_id): span.name
        for span in captured.spans
        if span.context
    }
    return [
        (
            str(record.log_record.body),
            names.get((record.log_record.trace_id or 0, record.log_record.span_id or 0), ""),
        )
        for record in exporter.get_finished_logs()
    ]


@pytest.mark.filterwarnings("ignore:`LoggingHandler` in:DeprecationWarning")
def test_log_records_carry_the_ids_of_the_span_that_is_open() -> None:
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    handler = LoggingHandler(logger_provider=provider)
    logger = logging.getLogger("program")
    logger.addHandler(handler)
    model = Speaking()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    try:
        with capture_spans() as captured:
            for _ in range(2):
                logger.warning("before the step")
                output = model(batch())
                logger.warning("in the loop")
                output.sum().backward()
                sgd.step()
                logger.warning("after the step")
    finally:
        logger.removeHandler(handler)
        provider.shutdown()
    assert records_of(captured, exporter) == 2 * [
        ("before the step", ""),
        ("in forward", "forward Speaking"),
        ("in the loop", "train.step"),
        ("after the step", ""),
    ]


@pytest.mark.parametrize("steps", [1, 3])
def test_asking_in_every_module_changes_no_tree(steps: int) -> None:
    model = Net()
    for module in model.modules():
        module.register_forward_pre_hook(
            lambda *_: trace.get_current_span().set_attribute("asked", True) and None
        )
        module.register_forward_hook(
            lambda *_: trace.get_current_span().get_span_context().span_id and None
        )
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans() as captured:
        for _ in range(steps):
            model(batch()).sum().backward()
            sgd.step()
    assert outline(captured) == steps * STEP
    asked = [span.name for tree in captured.trees for span in tree.walk() if own_attributes(span)]
    assert asked == steps * ["forward Net", "forward fc", "forward act"]
    assert len({span.context.span_id for span in captured.spans if span.context}) == 9 * steps


def test_numbers_that_no_span_holds_are_texts_and_nothing_is_logged(tmp_path: Path) -> None:
    program = f"""{TRAIN}
from opentelemetry import trace
class Speaking(Net):
    def forward(self, x):
        span = trace.get_current_span()
        span.set_attribute("mine.hash", 2**64 - 1)
        span.add_event("seen", {{"hash": [2**63, 1]}})
        return super().forward(x)
model = Speaking()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
train(2)
"""
    said(run(tmp_path, program, **ENABLED))
    attributes = [span.attributes for root in traces(tmp_path) for span in root.walk()]
    assert [one["mine.hash"] for one in attributes if "mine.hash" in one] == [str(2**64 - 1)] * 2
