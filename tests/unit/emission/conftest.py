"""Span trees made by hand, and a provider that keeps what it is sent."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NamedTuple

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_torch_modules._spans.span import Span, Trace

TRACE_ID = 0xABC
OFFSET = 1_000_000


class Memory(NamedTuple):
    """A provider and what has been exported through it."""

    provider: TracerProvider
    exporter: InMemorySpanExporter


@pytest.fixture
def memory() -> Memory:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "test"}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Memory(provider, exporter)


@pytest.fixture
def trace_of() -> Callable[..., Trace]:
    def make(**given: Any) -> Trace:
        values: dict[str, Any] = {
            "trace_id": TRACE_ID,
            "clock_offset": OFFSET,
            "trace_flags": 1,
            "trace_state": None,
            "parent": None,
        }
        return Trace(**{**values, **given})

    return make


@pytest.fixture
def small_tree(trace_of: Callable[..., Trace]) -> Span:
    """A step with a forward span and its backward span, linked."""
    root = Span(trace_of(), None, "train.step", "step", 0, 10, 90, {"torch.phase": "step"})
    forward = Span(
        root.trace, root, "forward GPT", "forward", 3, 20, 40, {"torch.phase": "forward"}
    )
    backward = Span(
        root.trace, root, "backward GPT", "backward", 4, 50, 80, {"torch.phase": "backward"}
    )
    backward.link = forward
    return root


@pytest.fixture
def drawings() -> Iterator[list[int]]:
    """One item for each time that this thread asks the operating system for random numbers."""
    asked: list[int] = []

    def count(_: FrameType, event: str, function: object) -> None:
        if event == "c_call" and function is os.urandom:
            asked.append(1)

    sys.setprofile(count)
    yield asked
    sys.setprofile(None)
