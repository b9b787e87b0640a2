"""What is compared: each contender is a context manager inside which steps are run.

A contender yields a function that wraps one step, for those that have to know where a step is. What
it takes to set one up or take it down is not timed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import torch
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from torch import nn
from torch.distributed._tools.mod_tracker import ModTracker
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

from otel_torch_modules import Config, TorchModuleInstrumentor
from otel_torch_modules._recording.recorder import Recorder
from otel_torch_modules._recording.steps import Steps
from otel_torch_modules._records import Record

Step = Callable[[], None]
Contender = Callable[[], contextlib.AbstractContextManager[Callable[[Step], None]]]


def _run(step: Step) -> None:
    step()


@contextlib.contextmanager
def nothing() -> Iterator[Callable[[Step], None]]:
    """No tracing: what all others are measured against."""
    yield _run


@contextlib.contextmanager
def empty_hooks() -> Iterator[Callable[[Step], None]]:
    """Global forward hooks that do nothing: the floor of any tool that uses them."""

    def before(module: nn.Module, args: Any) -> None:
        return None

    def after(module: nn.Module, args: Any, output: Any) -> None:
        return None

    handles = (register_module_forward_pre_hook(before), register_module_forward_hook(after))
    yield _run
    for handle in handles:
        handle.remove()


class _NoContext:
    """A step context that makes nothing current."""

    def open(self, record: Record) -> bool:
        return True

    def attach(self, record: Record) -> None:
        pass

    def detach(self, record: Record) -> None:
        pass


@contextlib.contextmanager
def recording(config: Config | None = None) -> Iterator[Callable[[Step], None]]:
    """Ours, on the training thread alone: records are made and dropped."""
    config = config or Config()
    recorder = Recorder(config)

    def failed() -> None:
        raise AssertionError("recording failed: see the log")

    steps = Steps(config, recorder, _NoContext(), lambda record: None, failed)
    recorder.install()

    def run(step: Step) -> None:
        with steps.step(None):
            step()

    yield run
    recorder.uninstall()


@contextlib.contextmanager
def exporting() -> Iterator[Callable[[Step], None]]:
    """Ours as it is used: recording, assembly, encoding and export by gRPC go on while steps run."""
    instrumentor = TorchModuleInstrumentor()
    instrumentor.instrument(config=Config())

    def run(step: Step) -> None:
        with instrumentor.step(None):
            step()

    yield run
    instrumentor.uninstrument()


@contextlib.contextmanager
def torch_profiler() -> Iterator[Callable[[Step], None]]:
    """``torch.profiler`` with ``with_modules=True``, collecting; what it has collected is thrown away."""
    profiler = torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], with_modules=True
    )
    profiler.start()
    yield _run
    profiler.stop()


@contextlib.contextmanager
def mod_tracker() -> Iterator[Callable[[Step], None]]:
    """torch's ModTracker, which knows where it is and emits nothing."""
    with ModTracker():
        yield _run


@contextlib.contextmanager
def _tracked_spans(provider: TracerProvider) -> Iterator[Callable[[Step], None]]:
    tracer = provider.get_tracer("benchmark")
    forward: list[trace.Span] = []
    backward: dict[int, list[trace.Span]] = {}

    def start_forward(module: nn.Module, args: Any) -> None:
        parent = trace.set_span_in_context(forward[-1]) if forward else None
        forward.append(tracer.start_span(f"forward {type(module).__name__}", parent))

    def end_forward(module: nn.Module, args: Any, output: Any) -> None:
        forward.pop().end()

    def start_backward(module: nn.Module, gradients: Any) -> None:
        span = tracer.start_span(f"backward {type(module).__name__}")
        backward.setdefault(id(module), []).append(span)

    def end_backward(module: nn.Module, gradients: Any) -> None:
        opened = backward.get(id(module))
        if opened:
            opened.pop().end()

    tracker = ModTracker()
    tracker.register_user_hooks(start_forward, end_forward, start_backward, end_backward)
    with tracker:
        yield _run


@contextlib.contextmanager
def tracked_spans() -> Iterator[Callable[[Step], None]]:
    """SDK spans made in ModTracker's hooks: what one would write first. They are not exported."""
    with _tracked_spans(TracerProvider(shutdown_on_exit=False)) as run:
        yield run


@contextlib.contextmanager
def tracked_spans_exporting() -> Iterator[Callable[[Step], None]]:
    """The same with the SDK's standard exporter; its queue is large enough not to drop any."""
    provider = TracerProvider(shutdown_on_exit=False)
    exporter = OTLPSpanExporter(insecure=True)
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=1_000_000))
    with _tracked_spans(provider) as run:
        yield run
    provider.shutdown()


CONTENDERS: dict[str, Contender] = {
    "nothing": nothing,
    "empty global hooks": empty_hooks,
    "ours, recording": recording,
    "torch.profiler, collecting": torch_profiler,
    "ModTracker": mod_tracker,
    "ModTracker + SDK spans": tracked_spans,
}

EXPORTING: dict[str, Contender] = {
    "ours, exporting": exporting,
    "ModTracker + SDK spans, exporting": tracked_spans_exporting,
}


def endpoint_is_set() -> bool:
    """Return whether there is a collector to export to."""
    return bool(os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"))
