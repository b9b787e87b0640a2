"""Large jobs, rank by rank in one process: recorded steps of the demo, through identity, assembly and encoding.

`python -m tests.distributed.simulation` prints how large a step's trace of 1 024 ranks is, and what was checked.
"""

from __future__ import annotations

import runpy
import time
from argparse import Namespace
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, Tracer, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otel_torch_modules import Config, semconv
from otel_torch_modules._assembly.assembler import Assembler
from otel_torch_modules._emission.current_span import RecordContext
from otel_torch_modules._emission.emitter import Emitter
from otel_torch_modules._emission.otlp.encoder import SpanEncoder
from otel_torch_modules._emission.otlp.protobuf import Protobuf
from otel_torch_modules._emission.provider import LazyTracerProvider
from otel_torch_modules._emission.record_spans import RecordSpans
from otel_torch_modules._emission.sampling import Decision
from otel_torch_modules._job.identity import JobIdentity
from otel_torch_modules._job.starter import JobContext
from otel_torch_modules._recording.causes.causes import Causes
from otel_torch_modules._recording.cost.spending import Spending
from otel_torch_modules._recording.loop.hooks import LoopHooks
from otel_torch_modules._recording.loop.steps import Steps
from otel_torch_modules._recording.losses import Losses
from otel_torch_modules._recording.recorder import Recorder
from otel_torch_modules._records import Record

WORLD_SIZE = 1_024
DEMO = Path(__file__).parents[2] / "otel_torch_modules" / "examples" / "train_gpt.py"


class DemoStep(NamedTuple):
    """One step of the demo's training as it was recorded, in full and with phases only."""

    full: Record
    phases: Record


def record_demo_step() -> DemoStep:
    """Train the demo for two steps each way and return the second ones."""
    return DemoStep(_record(phases_only=False), _record(phases_only=True))


class _Recorded:
    """A `StepContext` that lets everything be recorded."""

    def __init__(self, phases_only: bool) -> None:
        self._phases_only = phases_only

    def open(self, record: Record) -> bool:
        record.phases_only = self._phases_only
        return True

    def attach(self, record: Record) -> None: ...

    def detach(self, record: Record) -> None: ...

    def leave_closed(self) -> None: ...


def _record(*, phases_only: bool) -> Record:
    records: list[Record] = []
    config = Config()
    recorder = Recorder(config)
    losses = Losses(lambda _: None, recorder.uninstall)
    steps = Steps(
        config,
        recorder,
        _Recorded(phases_only),
        records.append,
        lambda _: None,
        losses=losses,
        causes=Causes((), recorder),
        hurry=lambda: lambda _: None,
    )
    hooks = LoopHooks(steps.loop)
    train = runpy.run_path(str(DEMO))["train"]
    recorder.install()
    hooks.install()
    try:
        train(Namespace(seed=0, width=16, steps=2, batch_size=2, workers=0), lambda *_: None)
        steps.finish()
    finally:
        hooks.uninstall()
        recorder.uninstall()
    return records[-1]


class _NoCalls:
    """An `OpenSpan` that no program asks."""

    def span_id(self, record: Record) -> int:
        return record.span_id

    def note(self, record: Record, method: str, arguments: tuple[Any, ...]) -> None: ...


class SimulatedRank:
    """One rank of a job: everything between its records and its tracer provider.

    Args:
        rank: which one.
        step: what each of its steps is like.
        provider: where spans go.
        config: the options of the job.
        world_size: number of ranks.
        spending: decides how deep its records go; None where there is no budget.
    """

    def __init__(
        self,
        rank: int,
        step: DemoStep,
        provider: TracerProvider,
        config: Config,
        world_size: int = WORLD_SIZE,
        spending: Spending | None = None,
    ) -> None:
        self._spending = spending
        environ = {
            "RANK": str(rank),
            "WORLD_SIZE": str(world_size),
            "TORCHELASTIC_RUN_ID": "simulated",
        }
        self._step = step
        self._provider = provider
        self._context = RecordContext(
            _NoCalls(),
            LazyTracerProvider(provider, on_found=lambda: None),
            lambda: None,
            JobIdentity(config, environ, lambda: None),
        )
        self._assembler = Assembler(config)
        self._emitter = Emitter(lambda: provider, JobContext({}))

    def open(self, index: int) -> Record | None:
        """Return the record of a step, with ids; None where the sampler or the choice of ranks leaves it out."""
        offset = time.time_ns() - self._step.full.end
        record = Record("step", index, self._step.full.start, offset)
        if not self._context.open(record):
            return None
        if self._spending is not None:
            self._spending.step_opens()
            self._spending.set_depth_of_step(record)
        like = self._step.phases if record.phases_only else self._step.full
        record.start, record.end = like.start, like.end
        record.micro_batches, record.log = like.micro_batches, like.log
        return record

    def send(self, index: int) -> Record | None:
        """Send a step and return its record."""
        record = self.open(index)
        if record is not None:
            self._emitter.emit(self._assembler.assemble(record))
        return record

    def encode(self, index: int) -> tuple[int, int]:
        """Return how many spans and bytes this rank adds to the trace of a step."""
        record = self.open(index)
        if record is None:
            return 0, 0
        tracer = self._provider.get_tracer(semconv.SCOPE_NAME)
        assert isinstance(tracer, Tracer)
        scope = InstrumentationScope(semconv.SCOPE_NAME, version("otel-torch-modules"), "")
        root = self._assembler.assemble(record)
        spans = RecordSpans(list(root.walk()), Decision(record.trace_flags, None), tracer, scope)
        (encoded,) = SpanEncoder(tracer, scope, Protobuf()).encode([(spans, spans.spans)])
        return len(spans.spans), len(encoded)


class Sink(SpanProcessor):
    """Takes note of every span that is sent."""

    def __init__(self) -> None:
        self.spans = 0
        self.ids: set[int] = set()
        self.roots: Counter[int] = Counter()  # trace id -> spans without parent
        self.ranks: Counter[int] = Counter()  # trace id -> spans of ranks
        self.parents: dict[int, set[int | None]] = {}  # trace id -> parents of the ranks' spans

    def on_end(self, span: ReadableSpan) -> None:
        context = span.context
        assert context is not None
        self.spans += 1
        self.ids.add(context.span_id)
        if span.parent is None:
            self.roots[context.trace_id] += 1
        elif span.name.startswith(semconv.RANK_PREFIX):
            self.ranks[context.trace_id] += 1
            self.parents.setdefault(context.trace_id, set()).add(span.parent.span_id)


def run_job(
    step: DemoStep,
    config: Config,
    steps: int,
    sampler: Sampler = ALWAYS_ON,
    world_size: int = WORLD_SIZE,
) -> Sink:
    """Send `steps` steps of all ranks into a sink."""
    sink = Sink()
    provider = TracerProvider(sampler=sampler, resource=Resource({}), shutdown_on_exit=False)
    provider.add_span_processor(sink)
    for number in range(world_size):
        rank = SimulatedRank(number, step, provider, config, world_size)
        for index in range(steps):
            rank.send(index)
    return sink


def trace_size(step: DemoStep, config: Config, world_size: int = WORLD_SIZE) -> tuple[int, int]:
    """Return how many spans and bytes of OTLP the trace of one step has."""
    provider = TracerProvider(resource=Resource({}), shutdown_on_exit=False)
    sizes = [
        SimulatedRank(rank, step, provider, config, world_size).encode(0)
        for rank in range(world_size)
    ]
    return sum(spans for spans, _ in sizes), sum(size for _, size in sizes)


def main() -> None:
    step = record_demo_step()
    print("| `DETAIL_RANKS` | ranks in detail | spans | MB |")
    print("|---|---:|---:|---:|")
    for choice, detailed in (
        ("none", 0),
        ("0", 1),
        ("*/64", 16),
        ("*/8", 128),
        ("all", WORLD_SIZE),
    ):
        ranks = str(WORLD_SIZE) if choice == "none" else choice
        spans, size = trace_size(step, Config(detail_ranks=ranks))
        print(f"| `{choice}` | {detailed} | {spans} | {size / 1e6:.2f} |", flush=True)
    begun = time.perf_counter()
    sink = run_job(step, Config(detail_ranks="0"), 200)
    print(
        f"200 steps of {WORLD_SIZE} ranks: {sink.spans} spans, {len(sink.ids)} different ids, "
        f"{len(sink.roots)} traces, "
        f"spans without parent in a trace {set(sink.roots.values())}, ranks {set(sink.ranks.values())}; "
        f"{time.perf_counter() - begun:.0f} s"
    )


if __name__ == "__main__":
    main()
