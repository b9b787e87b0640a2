"""A stall is sent whatever share of steps a sampler takes, unless it takes none at all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
import torch
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    DEFAULT_OFF,
    ParentBased,
    Sampler,
    TraceIdRatioBased,
)
from torch import Tensor, nn

from otel_torch_modules import TorchModuleInstrumentor
from otel_torch_modules.config import Config


class Waits(nn.Module):
    def __init__(self, go: threading.Event) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.go = go

    def forward(self, x: Tensor) -> Tensor:
        assert self.go.wait(60)
        out: Tensor = self.layer(x)
        return out


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("sampler", "sent"),
    [
        (ALWAYS_ON, True),
        (TraceIdRatioBased(0.0), True),
        (ParentBased(TraceIdRatioBased(0.0)), True),
        (ALWAYS_OFF, False),
        (DEFAULT_OFF, False),
    ],
    ids=lambda value: value.get_description() if isinstance(value, Sampler) else "",
)
def test_a_stall_is_sent_unless_nothing_is(
    sampler: Sampler, sent: bool, caplog: pytest.LogCaptureFixture
) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    go = threading.Event()
    model = Waits(go)
    TorchModuleInstrumentor().instrument(config=Config(stall_timeout=0.3), tracer_provider=provider)
    try:
        thread = threading.Thread(target=lambda: model(torch.ones(1, 2)).sum().backward())
        thread.start()
        # It is said before it is sent, and said again after what was said first has been sent.
        wait_until(lambda: sum("No progress" in line for line in caplog.messages) > 1)
        names = [span.name for span in exporter.get_finished_spans()]
    finally:
        go.set()
        thread.join(60)
        TorchModuleInstrumentor().uninstrument()
        provider.shutdown()
    assert ("train.stall" in names) is sent
    assert sent or names == []
