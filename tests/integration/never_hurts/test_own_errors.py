"""An error of our own is logged once, with its traceback; training goes on with the same result."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from opentelemetry import context
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.trace import get_current_span as current_span
from torch import nn
from torch.optim import optimizer as torch_optimizer
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _BaseDataLoaderIter

from otel_torch_modules import Config, TorchModuleInstrumentor, trace
from otel_torch_modules import step as manual_step
from otel_torch_modules._assembly.assembler import Assembler
from otel_torch_modules._emission.context import RecordContext
from otel_torch_modules._emission.emitter import Emitter
from otel_torch_modules._recording import recorder as recorder_module
from otel_torch_modules._recording.fqn import ModuleSites
from otel_torch_modules._recording.steps import Steps
from otel_torch_modules.testing import capture_spans
from tests.integration.steps.programs import Net, outline, step

PLAIN = nn.Module.__call__, _BaseDataLoaderIter.__next__


class InjectedError(Exception):
    """An error that is put into our code."""


def losses(steps: int = 4) -> list[float]:
    """Train and evaluate; return what came of it."""
    torch.manual_seed(0)
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    found = []
    for inputs in DataLoader(torch.randn(2 * steps, 4), batch_size=2):  # type: ignore[arg-type]
        loss = model(inputs).square().sum()
        loss.backward()
        sgd.step()
        sgd.zero_grad()
        found.append(loss.item())
    with torch.no_grad():
        found.append(model(torch.ones(2, 4)).sum().item())
    return found


def failing(original: Callable[..., Any], after: int) -> Callable[..., Any]:
    """Return `original`, but the call number `after` and all that follow raise."""
    calls = iter(range(1_000_000))

    def function(*arguments: Any, **keywords: Any) -> Any:
        if next(calls) >= after:
            raise InjectedError("on purpose")
        return original(*arguments, **keywords)

    return function


def errors(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Return what was logged as an error with a traceback: its message and the type of the exception."""
    return [
        (record.getMessage(), record.exc_info[0].__name__)
        for record in caplog.records
        if record.levelno >= logging.ERROR and record.exc_info and record.exc_info[0]
    ]


def hooks() -> tuple[object, ...]:
    return (
        nn.Module.__call__,
        _BaseDataLoaderIter.__next__,
        *torch_optimizer._global_optimizer_pre_hooks,
        *torch_optimizer._global_optimizer_post_hooks,
    )


STOPS = "Tracing stops: an error of otel-torch-modules {}; training goes on"

ON_THE_TRAINING_THREAD = [
    (recorder_module, "sequence_number", 0, "at the start of a module's call"),
    (recorder_module, "sequence_number", 1, "at the start of a module's call"),
    (recorder_module, "sequence_number", 2, "at the end of a module's call"),
    (recorder_module, "attach_mark", 0, "at the end of a module's call"),
    (recorder_module, "attach_mark", 1, "at the end of a module's call"),
    (recorder_module, "graph_task_id", 0, "at the start of a root module's call"),
    (recorder_module, "graph_task_id", 1, "in backward"),
    (recorder_module, "current_node", 0, "in backward"),
    (recorder_module, "queue_callback", 0, "in backward"),
    (ModuleSites, "add", 0, "at the start of a module's call"),
    (Steps, "root_opens", 0, "at the start of a root module's call"),
    (Steps, "root_closes", 0, "at the end of a root module's call"),
    (Steps, "task_opens", 0, "in backward"),
    (Steps, "task_closes", 0, "at the end of backward"),
    (Steps, "optimizer_starts", 0, "before an optimizer's step"),
    (Steps, "optimizer_ends", 0, "after an optimizer's step"),
    (Steps, "optimizer_ends", 2, "after an optimizer's step"),
    (Steps, "fetched", 0, "after a data loader's batch"),
    (Steps, "fetch_starts", 0, "before a data loader's batch"),
    (Steps, "fetch_fails", 0, "where a data loader has no batch"),
    (Steps, "gradients_dropped", 0, "before gradients are dropped"),
    (RecordContext, "open", 0, "at the start of a root module's call"),
    (RecordContext, "open", 2, "at the start of a root module's call"),
    (RecordContext, "attach", 0, "at the start of a root module's call"),
]


@pytest.mark.parametrize(("owner", "name", "after", "where"), ON_THE_TRAINING_THREAD)
def test_an_error_on_the_training_thread_ends_tracing(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    owner: Any,
    name: str,
    after: int,
    where: str,
) -> None:
    expected = losses()
    before = context.get_current()
    monkeypatch.setattr(owner, name, failing(getattr(owner, name), after))
    with capture_spans():
        assert losses() == expected
        assert context.get_current() == before
        assert hooks() == PLAIN
        assert losses() == expected
        monkeypatch.undo()  # what takes tracing down must not fail as well
        assert losses() == expected
    assert errors(caplog) == [(STOPS.format(where), "InjectedError")]
    caplog.clear()
    with capture_spans() as captured:  # and it can be put on again
        losses()
    assert len(captured.trees) == 5
    assert errors(caplog) == []


def test_what_cannot_be_taken_down_is_logged_as_well(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = losses()
    before = context.get_current()
    monkeypatch.setattr(RecordContext, "detach", failing(RecordContext.detach, 0))
    with capture_spans():
        assert losses() == expected
        assert hooks() == PLAIN
    context.attach(before)
    assert errors(caplog) == [
        (STOPS.format("after an optimizer's step"), "InjectedError"),
        ("Tracing could not be taken down in full", "InjectedError"),
    ]


@pytest.mark.parametrize("name", ["_open", "finish"])
def test_an_error_where_steps_are_set_by_hand_ends_tracing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    monkeypatch.setattr(Steps, name, failing(getattr(Steps, name), 0))
    results = []
    with capture_spans() as captured:
        for index in range(3):
            with manual_step(index):
                results.append(losses(1))
        assert hooks() == PLAIN
        assert not current_span().get_span_context().is_valid
    assert results == 3 * [losses(1)]
    assert outline(captured) == ""
    where = "where a step begins that is set by hand"
    assert errors(caplog)[0] == (STOPS.format(where), "InjectedError")
    assert len(errors(caplog)) == (1 if name == "_open" else 3)  # all that has to finish fails, too


def test_an_error_at_the_end_is_not_the_programs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = losses()
    with capture_spans():
        assert losses() == expected
        monkeypatch.setattr(Steps, "finish", failing(Steps.finish, 0))
    assert errors(caplog) == [("The last step is lost", "InjectedError")]
    assert hooks() == PLAIN


LOST = "Spans were lost; training goes on, and further errors are only counted"


@pytest.mark.parametrize(("owner", "name"), [(Assembler, "assemble"), (Emitter, "emit")])
def test_an_error_on_the_worker_is_logged_once_and_the_other_steps_arrive(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, owner: Any, name: str
) -> None:
    expected = losses()
    original = getattr(owner, name)
    calls = iter(range(1_000))

    def sometimes(*arguments: Any) -> Any:
        if next(calls) in (0, 2):
            raise InjectedError("on purpose")
        return original(*arguments)

    monkeypatch.setattr(owner, name, sometimes)
    with capture_spans() as captured:
        assert losses() == expected
    whole = step(
        "dataloader.next\n",
        "forward Net\n  forward fc\n  forward act\n",
        "backward\n  backward Net\n    backward act\n    backward fc\n",
        "optimizer.step SGD\n",
    )
    evaluation = "forward Net\n  forward fc\n  forward act\n"
    assert outline(captured) == 2 * whole + evaluation
    assert errors(caplog) == [(LOST, "InjectedError")]


class Failing(SpanExporter):
    """Raises at every export."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        raise InjectedError("on purpose")


@pytest.mark.parametrize("processor", [SimpleSpanProcessor, BatchSpanProcessor])
def test_an_exporter_that_raises_does_not_reach_training(
    caplog: pytest.LogCaptureFixture, processor: Callable[[SpanExporter], Any]
) -> None:
    expected = losses()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor(Failing()))
    with trace(config=Config(), tracer_provider=provider):
        assert losses() == expected
    provider.shutdown()
    assert all(kind == "InjectedError" for _, kind in errors(caplog))
    assert not [record for record in caplog.records if record.name == "otel_torch_modules"]
    assert hooks() == PLAIN
    assert not TorchModuleInstrumentor().is_instrumented_by_opentelemetry


class BadProcessor(SimpleSpanProcessor):
    """Raises when a span ends."""

    def on_end(self, span: ReadableSpan) -> None:
        raise InjectedError("on purpose")


def test_a_processor_that_raises_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    expected = losses()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BadProcessor(Failing()))
    with trace(config=Config(), tracer_provider=provider):
        assert losses() == expected
    provider.shutdown()
    assert errors(caplog) == [(LOST, "InjectedError")]
