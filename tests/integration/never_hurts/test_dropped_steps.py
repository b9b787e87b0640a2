"""Steps that come faster than they can be sent are dropped whole; metric, trace and `doctor` say how many."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.training_program import TRAIN, doctor, run, traces

STEPS_UNDER_PRESSURE = 80
CAPACITY = 64_000  # bytes; a step with modules takes some 3 000, without some 2 000

PROGRAM = f"""{TRAIN}
import json, threading
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from otel_torch_modules import TorchModuleInstrumentor
from otel_torch_modules._engine import engine
from otel_torch_modules._emission.otlp.file import OtlpFileSpanExporter

SOON = 60

class Stuck(OtlpFileSpanExporter):
    "Writes nothing before `go_on`."
    begun, go_on = threading.Event(), threading.Event()

    def export(self, spans):
        self.begun.set()
        assert self.go_on.wait(SOON)
        return super().export(spans)

def points():
    data = reader.get_metrics_data()
    return [
        [metric.name, dict(point.attributes).get("error.type"), point.value]
        for of_resource in (data.resource_metrics if data else ())
        for of_scope in of_resource.scope_metrics
        for metric in of_scope.metrics
        if metric.name.startswith("torch.sdk.")
        for point in metric.data.data_points
    ]

engine._CAPACITY = {CAPACITY}
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(Stuck()))
TorchModuleInstrumentor().instrument(tracer_provider=provider)
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))

train(2)
assert Stuck.begun.wait(SOON)
train({STEPS_UNDER_PRESSURE})
under_pressure = points()
Stuck.go_on.set()
tracing = TorchModuleInstrumentor()._tracing
assert tracing._engine.worker.flush(SOON)
train(3)
assert tracing._engine.worker.flush(SOON)
afterwards = points()
TorchModuleInstrumentor().uninstrument()
print(json.dumps([under_pressure, afterwards, points()]))
"""
STEPS = 2 + STEPS_UNDER_PRESSURE + 3
PROCESSED = "torch.sdk.processor.step.processed"
QUEUE_SIZE = "torch.sdk.processor.step.queue.size"
QUEUE_CAPACITY = "torch.sdk.processor.step.queue.capacity"


def test_all_say_the_same_number(tmp_path: Path) -> None:
    done = run(tmp_path, PROGRAM)
    assert done.returncode == 0, done
    steps = {root.attributes["torch.step"]: root.attributes for root in traces(tmp_path)}
    dropped = STEPS - len(steps)
    assert 0 < dropped < STEPS_UNDER_PRESSURE
    assert done.stderr.splitlines() == [
        "0 MB of steps wait to be sent: evaluations are left out from here on, then the modules of steps, "
        "then whole steps; all are counted",
        f"{STEPS} steps recorded, {len(steps)} sent: {dropped} lost by queue_full",
    ]

    in_full = {
        index for index, attributes in steps.items() if "torch.step.truncated" not in attributes
    }
    assert in_full >= {0, STEPS - 1}
    assert len(in_full) < len(steps)  # the others are of phases only

    (gap,) = (index for index in sorted(steps) if index and index - 1 not in steps)
    assert gap - max(index for index in steps if index < gap) - 1 == dropped
    said_by_trace = {
        index: attributes["torch.step.dropped"]
        for index, attributes in steps.items()
        if "torch.step.dropped" in attributes
    }
    assert said_by_trace == {gap: dropped}

    under_pressure, afterwards, after_uninstrument = json.loads(done.stdout)
    # A step that had ended, but was not handed over yet, may have found the queue full later.
    dropped_until_then = under_pressure[1][2]
    assert dropped - 1 <= dropped_until_then <= dropped
    (size,) = (value for name, _, value in under_pressure if name == QUEUE_SIZE)
    assert CAPACITY * 0.9 < size <= CAPACITY
    assert under_pressure == [
        [PROCESSED, None, 0],
        [PROCESSED, "queue_full", dropped_until_then],
        [QUEUE_SIZE, None, size],
        [QUEUE_CAPACITY, None, CAPACITY],
    ]
    (handled,) = (value for name, error, value in afterwards if (name, error) == (PROCESSED, None))
    assert (
        len(steps) - 1 <= handled <= len(steps)
    )  # the last step may not have been handed over yet
    assert afterwards == [
        [PROCESSED, None, handled],
        [PROCESSED, "queue_full", dropped],
        [QUEUE_SIZE, None, 0],
        [QUEUE_CAPACITY, None, CAPACITY],
    ]
    assert after_uninstrument == []

    (file,) = tmp_path.glob("*.jsonl")
    examined = doctor(tmp_path, file)
    cut = len(steps) - len(in_full)
    assert f"{file}: {len(steps)} steps, {cut} truncated, {dropped} dropped\n" in examined.stdout
    assert f"✗ {file}: {cut} steps were truncated" in examined.stdout
    assert f"✗ {file}: {dropped} steps were dropped, evaluations included" in examined.stdout
    assert (examined.returncode, examined.stderr) == (1, "")
