"""What is compared: each contender is a context manager inside which steps are run.

A contender yields a function that runs one step, for those that have to know where a step is. What it takes to set
one up or take it down, and to finish what it does in the background, is in entering and leaving it and is not timed.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from torch import nn
from torch.distributed._tools.mod_tracker import ModTracker
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

from benchmarks.machine import release_freed_memory
from benchmarks.recorded import recording_into, recording_phases
from otel_torch_modules import Config, Schedule, TorchModuleInstrumentor, step

# libkineto would say on stderr when each profile starts and stops.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")
# And torch, that a schedule has no warm-up and keeps one step at a time: that is what is compared.
warnings.filterwarnings("ignore", "Profiler won't be using warmup")
warnings.filterwarnings("ignore", "Warning: Profiler clears events")

if TYPE_CHECKING:
    from otel_torch_modules._recording.loop.steps import Steps

Step = Callable[[], None]
Run = Callable[[Step], None]
Contender = Callable[[], AbstractContextManager[Run]]


def _run(train: Step) -> None:
    train()


def _each_in_a_step_of(steps: Steps) -> Run:
    def run(train: Step) -> None:
        with steps.step(None):
            train()

    return run


@contextmanager
def nothing() -> Iterator[Run]:
    """No tracing: what all others are measured against."""
    yield _run


@contextmanager
def empty_hooks() -> Iterator[Run]:
    """Global forward hooks that do nothing: the floor of any tool that uses them."""

    def before(module: nn.Module, args: Any) -> None:
        return None

    def after(module: nn.Module, args: Any, output: Any) -> None:
        return None

    handles = (register_module_forward_pre_hook(before), register_module_forward_hook(after))
    yield _run
    for handle in handles:
        handle.remove()


@contextmanager
def recording() -> Iterator[Run]:
    """Ours, on the training thread alone: records of steps are made and dropped."""
    with recording_into(lambda record: None) as steps:
        yield _each_in_a_step_of(steps)


@contextmanager
def recording_inference() -> Iterator[Run]:
    """The same for forwards outside steps: each root forward is a record of its own."""
    with recording_into(lambda record: None):
        yield _run


@contextmanager
def _instrumented(config: Config) -> Iterator[Run]:
    TorchModuleInstrumentor().instrument(config=config)

    def run(train: Step) -> None:
        with step():
            train()

    yield run
    TorchModuleInstrumentor().uninstrument()


def exporting() -> AbstractContextManager[Run]:
    """Ours as it is used: recording, assembly, encoding and export by gRPC go on while steps run."""
    return _instrumented(Config())


def leaving_out() -> AbstractContextManager[Run]:
    """Ours, with a schedule that has every step of the benchmark left out."""
    return _instrumented(Config(schedule=Schedule(skip_first=1 << 40)))


@contextmanager
def recording_phases_only() -> Iterator[Run]:
    """Ours, recording steps without modules on the training thread: the worker has them and drops them."""
    with recording_phases() as steps:
        yield _each_in_a_step_of(steps)


def phases_only() -> AbstractContextManager[Run]:
    """Ours, recording and exporting steps without modules: this process is rank 0, and has no detail."""
    return _instrumented(Config(detail_ranks="1"))


@contextmanager
def exporting_a_loop() -> Iterator[Run]:
    """Ours with nothing said: steps are found from the optimizer, as in a program that knows nothing of tracing."""
    TorchModuleInstrumentor().instrument(config=Config())
    yield _run
    TorchModuleInstrumentor().uninstrument()


def _profile(**options: Any) -> torch.profiler.profile:
    return torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], with_modules=True, **options
    )


@contextmanager
def torch_profiler() -> Iterator[Run]:
    """``torch.profiler`` with ``with_modules=True``, collecting; what it has collected is thrown away.

    For eager models it then collects operators alone: `torch_profiler_of_modules` is what shows modules. The memory
    that it fills is what it has filled before: its best case.
    """
    with _profile():
        yield _run


@contextmanager
def torch_profiler_going_on() -> Iterator[Run]:
    """The same into memory that is new to the process, which is what a collection that goes on fills."""
    release_freed_memory()
    with _profile():
        yield _run


@contextmanager
def torch_profiler_of_modules() -> Iterator[Run]:
    """The same with ``with_stack=True``, without which no module of an eager model is in its trace."""
    with _profile(with_stack=True):
        yield _run


@contextmanager
def torch_profiler_writing() -> Iterator[Run]:
    """``torch.profiler`` with ``with_modules=True`` that writes the trace of each step, as its schedule does it."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "trace.json")
        with _profile(
            schedule=torch.profiler.schedule(wait=0, warmup=0, active=1),
            on_trace_ready=lambda profiler: profiler.export_chrome_trace(path),
        ) as profiler:

            def run(train: Step) -> None:
                train()
                profiler.step()

            yield run


@contextmanager
def mod_tracker() -> Iterator[Run]:
    """torch's ModTracker, which knows where it is and emits nothing."""
    with ModTracker():
        yield _run


@contextmanager
def _tracked_spans(provider: TracerProvider) -> Iterator[Run]:
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


@contextmanager
def tracked_spans() -> Iterator[Run]:
    """SDK spans made in ModTracker's hooks: what one would write first. They are not exported."""
    with _tracked_spans(TracerProvider(shutdown_on_exit=False)) as run:
        yield run


@contextmanager
def tracked_spans_exporting(exporter: Callable[[], SpanExporter]) -> Iterator[Run]:
    """The same with one of the SDK's exporters; the queue is large enough not to drop any."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter(), max_queue_size=1_000_000))
    with _tracked_spans(provider) as run:
        yield run
    provider.shutdown()
