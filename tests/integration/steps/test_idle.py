"""A step that has ended leaves on its own: it does not wait for the next one to open."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import torch
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from otel_torch_modules import Config, trace
from tests.support.small_training import STEP, Net, batch, train

TIME_LIMIT = 30.0  # seconds


class Arrivals(SpanExporter):
    """Sets `arrived` when a step's own span has come."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.arrived = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.names += [span.name for span in spans]
        if len(self.names) % len(STEP.splitlines()) == 0:
            self.arrived.set()
        return SpanExportResult.SUCCESS


def test_an_ended_step_is_sent_without_another() -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    arrivals = Arrivals()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(arrivals))
    names = sorted(line.strip() for line in STEP.splitlines())
    with trace(config=Config(), tracer_provider=provider):
        for number in range(1, 3):
            train(model, sgd)
            assert arrivals.arrived.wait(TIME_LIMIT)
            assert sorted(arrivals.names) == sorted(names * number)
            arrivals.arrived.clear()
    provider.shutdown()
    assert sorted(arrivals.names) == sorted(names * 2)


def test_what_comes_after_an_ended_step_was_sent_does_no_harm() -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    arrivals = Arrivals()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(arrivals))
    with trace(config=Config(), tracer_provider=provider):
        kept = model(batch()).sum()
        kept.backward(retain_graph=True)
        sgd.step()
        assert arrivals.arrived.wait(TIME_LIMIT)
        kept.backward()  # its step is gone
        sgd.step()
        sgd.step()
        train(model, sgd)
    provider.shutdown()
    assert sorted(arrivals.names) == sorted(2 * [line.strip() for line in STEP.splitlines()])
