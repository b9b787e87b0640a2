"""An error of our own is logged once, with its traceback, and counted; training goes on with the same result.

What it costs, wherever it comes up, is tried in `test_injected_errors`.
"""

from __future__ import annotations

import logging
import signal
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
from otel_torch_modules._emission.emitter import Emitter
from otel_torch_modules._recording.loop.current_step import CurrentStep
from otel_torch_modules._recording.loop.steps import Steps
from otel_torch_modules.testing import capture_spans
from tests.support.small_training import EVALUATION, Net, outline, step

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
        (record.getMessage(), record.exc_text.splitlines()[-1].partition(":")[0].rpartition(".")[2])
        for record in caplog.records
        if record.levelno >= logging.ERROR and record.exc_text
    ]


def hooks() -> tuple[object, ...]:
    return (
        nn.Module.__call__,
        _BaseDataLoaderIter.__next__,
        *torch_optimizer._global_optimizer_pre_hooks,
        *torch_optimizer._global_optimizer_post_hooks,
    )


LOST = "A record is lost to an error of otel-torch-modules {}; tracing goes on"


def test_hooks_come_off_when_five_records_in_a_row_are_lost(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = losses(8)
    before = context.get_current()
    with capture_spans() as captured:
        with monkeypatch.context() as patched:
            patched.setattr(Steps, "task_opens", failing(Steps.task_opens, 0))
            assert losses(4) == losses(4)  # an evaluation that is whole comes after four steps
            assert hooks() != PLAIN
            assert losses(8) == expected
            assert hooks() == PLAIN
        assert context.get_current() == before
        assert losses(8) == expected
    assert outline(captured) == 2 * EVALUATION
    first, last, at_the_end = caplog.records
    assert first.getMessage() == LOST.format("in backward")
    assert last.getMessage() == (
        "Tracing stops: 5 records in a row were lost to errors of otel-torch-modules; training goes on"
    )
    assert (bool(first.exc_text), bool(last.exc_text)) == (True, False)
    assert at_the_end.getMessage().startswith("13 steps and 2 evaluations recorded, 0 and 2 sent: ")
    with capture_spans() as again:  # and it can be put on again
        losses()
    assert len(again.trees) == 5


def test_the_next_step_says_that_one_was_lost_and_the_counter_to_what(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = iter(range(100))
    original = Steps.task_closes

    def fails_once(*arguments: Any, **keywords: Any) -> None:
        if next(calls) == 1:
            raise InjectedError("on purpose")
        original(*arguments, **keywords)

    monkeypatch.setattr(Steps, "task_closes", fails_once)
    with capture_spans() as captured:
        losses(4)
        tracing = TorchModuleInstrumentor()._tracing
        assert tracing is not None
    steps = {
        tree.attributes["torch.step"]: tree.attributes
        for tree in captured.trees
        if tree.name == "train.step"
    }
    assert list(steps) == [0, 2, 3]
    assert [steps[index].get("torch.step.dropped") for index in (0, 2, 3)] == [None, 1, None]
    assert tracing._engine.worker.outcomes() == {"": 4, "queue_full": 0, "InjectedError": 1}


def test_a_handler_of_logs_that_raises_does_not_reach_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Broken(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            raise LookupError("no place for logs")

    expected = losses()
    monkeypatch.setattr(Steps, "task_opens", failing(Steps.task_opens, 0))
    handler = Broken()
    logging.getLogger().addHandler(handler)
    try:
        with capture_spans():
            assert losses() == expected
    finally:
        logging.getLogger().removeHandler(handler)


@pytest.mark.parametrize("name", ["make", "hand_over"])
def test_an_error_where_steps_are_set_by_hand_costs_the_step(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    expected = 3 * [losses(1)]

    def by_hand() -> list[list[float]]:
        results = []
        for index in range(3):
            with manual_step(index):
                results.append(losses(1))
        return results

    with capture_spans() as captured:
        with monkeypatch.context() as patched:
            patched.setattr(CurrentStep, name, failing(getattr(CurrentStep, name), 0))
            assert by_hand() == expected
        assert not current_span().get_span_context().is_valid
        assert by_hand() == expected
    assert [tree.attributes["torch.step"] for tree in captured.trees][-2:] == [1, 2]
    assert {kind for _, kind in errors(caplog)} == {"InjectedError"}


def test_an_error_at_the_end_is_not_the_programs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = losses()
    with capture_spans():
        assert losses() == expected
        monkeypatch.setattr(Steps, "finish", failing(Steps.finish, 0))
    assert (LOST.format("where the last step is handed over"), "InjectedError") in errors(caplog)
    assert hooks() == PLAIN


LOST_SPANS = "Spans were lost; training goes on, and further errors are only counted"


def fail_first_and_third(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
    """Have a method raise at its first and at its third call."""
    original = getattr(owner, name)
    calls = iter(range(1_000))

    def sometimes(*arguments: Any) -> Any:
        if next(calls) in (0, 2):
            raise InjectedError("on purpose")
        return original(*arguments)

    monkeypatch.setattr(owner, name, sometimes)


@pytest.mark.parametrize(("owner", "name"), [(Assembler, "assemble"), (Emitter, "emit")])
def test_an_error_on_the_worker_is_logged_once_and_the_other_steps_arrive(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, owner: Any, name: str
) -> None:
    expected = losses()
    fail_first_and_third(monkeypatch, owner, name)
    with capture_spans() as captured:
        assert losses() == expected
    whole = step(
        "dataloader.next\n",
        "forward Net\n  forward fc\n  forward act\n",
        "backward\n  backward Net\n    backward act\n    backward fc\n",
        "optimizer.step SGD\n",
    )
    assert outline(captured) == 2 * whole + EVALUATION
    assert errors(caplog) == [(LOST_SPANS, "InjectedError")]


@pytest.mark.parametrize(("owner", "name"), [(Assembler, "assemble"), (Emitter, "emit")])
def test_the_next_step_says_what_an_error_on_the_worker_has_cost(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    fail_first_and_third(monkeypatch, owner, name)
    model = Net()
    with capture_spans() as captured:
        tracing = TorchModuleInstrumentor()._tracing
        assert tracing is not None
        for _ in range(5):
            with manual_step():
                model(torch.ones(2, 4)).sum().backward()
            assert tracing._engine.worker.flush(60)
    said = [
        (tree.attributes["torch.step"], tree.attributes.get("torch.step.dropped"))
        for tree in captured.trees
    ]
    assert said == [(1, 1), (3, 1), (4, None)]


def test_what_a_signal_handler_raises_while_we_log_is_the_programs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def strikes(_: logging.LogRecord) -> bool:
        signal.raise_signal(signal.SIGALRM)
        return True

    def times_out(*_: Any) -> None:
        raise TimeoutError

    monkeypatch.setattr(CurrentStep, "make", failing(CurrentStep.make, 0))
    before = signal.signal(signal.SIGALRM, times_out)
    logger = logging.getLogger("otel_torch_modules")
    logger.addFilter(strikes)
    try:
        with trace(), pytest.raises(TimeoutError):
            losses(1)
    finally:
        logger.removeFilter(strikes)
        signal.signal(signal.SIGALRM, before)


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
    assert errors(caplog) == [(LOST_SPANS, "InjectedError")]
