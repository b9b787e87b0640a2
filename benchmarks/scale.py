"""Hundreds of steps of ten thousand module calls, through the real collector into the real Jaeger.

    python -m benchmarks.scale [--steps 200] [--calls 10000]

Fails unless every span of every step has arrived: counted at the collector (taken, sent on, none refused or dropped),
and in Jaeger, trace by trace; a few traces are read whole and their trees compared. It fails too where the memory of
the process after the last step is more than that after the twentieth, each when all has been sent. Then it prints the
CPU time of a span by the size of the step. Jaeger keeps all traces in memory: some 20 MB for each step of 10 000
calls.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import psutil
from opentelemetry import trace

from benchmarks.collector import accepted_spans, backends_or_exit, exporting_to, local_collector
from benchmarks.cost_per_span import by_size
from benchmarks.deep import DeepTransformer
from benchmarks.enough import QUICK
from benchmarks.figures import median
from benchmarks.machine import describe, use_one_thread
from otel_torch_modules import Config, TorchModuleInstrumentor, step
from tests.deploy.metrics import scrape
from tests.support.backend_servers import Collector, Jaeger
from tests.support.jaeger_query import count

_EARLY = 20  # steps
_READ_WHOLE = 5  # traces
_ARRIVAL_LIMIT_S = 300
_MORE_MEMORY = 0.02  # of the process, that may have been added since the early step


@dataclass
class Trained:
    """What a run has left: the trace of each step, and memory, bytes, after an early step and after the last."""

    trace_ids: list[str]
    early: int
    late: int
    seconds: float
    cpu_seconds: float


def train(model: DeepTransformer, steps: int, collector: Collector) -> Trained:
    """Train for `steps` traced steps, one after the other, and wait until the collector has them.

    Raises:
        AssertionError: not all spans have arrived there.
    """
    process, trace_ids, memory = psutil.Process(), [], []
    TorchModuleInstrumentor().instrument(config=Config())
    started, cpu_started = time.monotonic(), time.process_time()
    for index in range(steps):
        with step(index):
            model.train_step()
            context = trace.get_current_span().get_span_context()
        trace_ids.append(f"{context.trace_id:032x}")
        if index + 1 in (min(_EARLY, steps), steps):
            _wait_for(collector, (index + 1) * model.spans_of_a_step)
            memory.append(process.memory_info().rss)
    seconds, cpu_seconds = time.monotonic() - started, time.process_time() - cpu_started
    TorchModuleInstrumentor().uninstrument()
    return Trained(trace_ids, memory[0], memory[-1], seconds, cpu_seconds)


def _wait_for(collector: Collector, spans: int) -> None:
    deadline = time.monotonic() + _ARRIVAL_LIMIT_S
    while (found := accepted_spans(collector.metrics_url)) < spans:
        if time.monotonic() > deadline:
            raise AssertionError(f"{found} of {spans} spans have arrived at the collector")
        time.sleep(0.05)


def lost(collector: Collector, jaeger: Jaeger, trained: Trained, spans_of_a_step: int) -> list[str]:
    """Return what is missing or too many, in words: nothing where every span of every step is in Jaeger."""
    spans = len(trained.trace_ids) * spans_of_a_step
    deadline = time.monotonic() + _ARRIVAL_LIMIT_S
    while (
        _counted(collector, "otelcol_exporter_sent_spans") < spans and time.monotonic() < deadline
    ):
        time.sleep(0.05)
    expected = {
        "otelcol_receiver_accepted_spans": spans,
        "otelcol_exporter_sent_spans": spans,
        "otelcol_receiver_refused_spans": 0,
        "otelcol_receiver_failed_spans": 0,
        "otelcol_exporter_enqueue_failed_spans": 0,
        "otelcol_exporter_send_failed_spans": 0,
    }
    wrong = [
        f"{name} is {found}, not {number}"
        for name, number in expected.items()
        if (found := _counted(collector, name)) != number
    ]
    for index, trace_id in enumerate(trained.trace_ids):
        stored = stored_spans(jaeger, trace_id)
        if stored != spans_of_a_step:
            wrong.append(f"step {index} has {stored} spans in Jaeger, not {spans_of_a_step}")
    return wrong


def differing_trees(jaeger: Jaeger, trained: Trained, spans_of_a_step: int) -> list[str]:
    """Read a few traces whole; return those that are not one tree, or another than that of the second step."""
    steps = len(trained.trace_ids)
    chosen = sorted({min(1, steps - 1), *range(0, steps, max(1, steps // _READ_WHOLE)), steps - 1})
    outlines = {}
    for index in chosen:
        roots = jaeger.query.roots(trained.trace_ids[index])
        whole = len(roots) == 1 and count(roots) == spans_of_a_step
        outlines[index] = roots[0].outline() if whole else []
    model_tree = outlines[chosen[min(1, len(chosen) - 1)]]
    return [
        f"the trace of step {index} is not the tree of the others"
        for index, outline in outlines.items()
        if not outline or outline != model_tree
    ]


def stored_spans(jaeger: Jaeger, trace_id: str) -> int:
    """Return how many spans of a trace Jaeger has, without parsing megabytes of JSON."""
    with urllib.request.urlopen(f"{jaeger.url}/api/v3/traces/{trace_id}", timeout=120) as response:
        body: bytes = response.read()
    return body.count(b'"startTimeUnixNano"')


def _counted(collector: Collector, name: str) -> int:
    return round(
        sum(
            sample.value
            for sample in scrape(collector.metrics_url)
            if sample.name.removesuffix("_total") == name
        )
    )


def main() -> None:
    """Run it, print the figures, and end with 1 where something is missing or memory has grown."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--calls", type=int, default=10_000)
    arguments = parser.parse_args()
    use_one_thread()
    print(describe(), flush=True)
    model = DeepTransformer(arguments.calls)
    spans = model.spans_of_a_step
    with tempfile.TemporaryDirectory() as name, backends_or_exit():
        folder = Path(name)
        with (
            # Go's garbage collector would let Jaeger's memory grow to twice what it holds.
            Jaeger(folder, JAEGER_MAX_TRACES=str(arguments.steps), GOGC="25") as jaeger,
            Collector(folder, "jaeger.yaml", JAEGER_ENDPOINT=jaeger.otlp_grpc) as collector,
            exporting_to(f"http://{collector.otlp_grpc}"),
        ):
            trained = train(model, arguments.steps, collector)
            wrong = lost(collector, jaeger, trained, spans)
            wrong += differing_trees(jaeger, trained, spans)
    made = arguments.steps * spans
    print(f"{arguments.steps} steps of {model.calls} module calls, {spans} spans: {made} spans")
    print(
        f"{trained.seconds:.0f} s, {made / trained.seconds:.0f} spans a second, "
        f"{trained.cpu_seconds / made * 1e6:.1f} µs of CPU a span, training included"
    )
    grown = trained.late / trained.early - 1
    print(
        f"memory after step {min(_EARLY, arguments.steps)}: {trained.early / 1e6:.0f} MB, "
        f"after the last: {trained.late / 1e6:.0f} MB, {grown:+.1%}"
    )
    if grown > _MORE_MEMORY:
        wrong.append(f"memory has grown by {grown:.1%}")
    with local_collector() as sink:
        print(f"{'spans a step':>14}{'µs of CPU a span, training not included':>46}")
        for size, figures in by_size(sink, QUICK).items():
            print(f"{size:>14}{median(figures)!s:>46}")
    print("every span has arrived, in every step" if not wrong else "\n".join(wrong))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
