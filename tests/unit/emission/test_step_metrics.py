"""The metrics about steps: every data point, from a worker's first record until it is left."""

from __future__ import annotations

import gc
import os
import subprocess
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, Sum

from otel_torch_modules._emission.step_metrics import StepMetrics
from otel_torch_modules._engine.worker import Worker
from otel_torch_modules._records import Record
from tests.support.workers import EMPTY_RECORD, make_worker

SOON = 30.0  # s; reached only when something hangs

PROCESSED = "torch.sdk.processor.step.processed"
QUEUE_SIZE = "torch.sdk.processor.step.queue.size"
QUEUE_CAPACITY = "torch.sdk.processor.step.queue.capacity"
COMPONENT = {
    "otel.component.type": "torch_step_processor",
    "otel.component.name": "torch_step_processor/0",
}


def points(reader: InMemoryMetricReader) -> list[tuple[str, str, bool, dict[str, Any], int]]:
    """Return name, unit, whether it only grows, attributes and value of every data point."""
    data = reader.get_metrics_data()
    return [
        (metric.name, metric.unit, metric.data.is_monotonic, dict(point.attributes), point.value)
        for of_resource in (data.resource_metrics if data else ())
        for of_scope in of_resource.scope_metrics
        for metric in of_scope.metrics
        if isinstance(metric.data, Sum)
        for point in metric.data.data_points
    ]


def expected(
    size: int, capacity: int, handled: int, dropped: int, **lost: int
) -> list[tuple[str, str, bool, dict[str, Any], int]]:
    failed = {"queue_full": dropped, **lost}
    return [
        (PROCESSED, "{step}", True, COMPONENT, handled),
        *(
            (PROCESSED, "{step}", True, {**COMPONENT, "error.type": error}, number)
            for error, number in failed.items()
        ),
        (QUEUE_SIZE, "By", False, COMPONENT, size * EMPTY_RECORD),
        (QUEUE_CAPACITY, "By", False, COMPONENT, capacity * EMPTY_RECORD),
    ]


def nothing(*_: object) -> None:
    pass


def worker_of(handle: Callable[[Record], None] = nothing, capacity: int = 2) -> Worker:
    return make_worker(handle, capacity=capacity)


def record(index: int) -> Record:
    return Record("step" if index % 2 else "eval", index, 0, 0)


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


@pytest.fixture
def step_metrics(reader: InMemoryMetricReader) -> StepMetrics:
    return StepMetrics(MeterProvider([reader], shutdown_on_exit=False).get_meter("test"))


def test_without_a_worker_there_is_no_data_point(
    reader: InMemoryMetricReader, step_metrics: StepMetrics
) -> None:
    assert points(reader) == []


def test_what_waits_what_was_handled_and_what_was_dropped(
    reader: InMemoryMetricReader, step_metrics: StepMetrics
) -> None:
    busy, go_on = threading.Event(), threading.Event()

    def handle(item: Record) -> None:
        busy.set()
        assert go_on.wait(SOON)
        if item.index == 1:
            raise LookupError("no")

    worker = worker_of(handle)
    step_metrics.watch(worker)
    assert points(reader) == expected(size=0, capacity=2, handled=0, dropped=0)
    worker.put(record(0))
    assert busy.wait(SOON)
    assert [worker.put(record(index)) for index in range(1, 6)] == [True] * 3 + [
        False
    ] * 2  # the second made room for the third
    assert points(reader) == expected(size=2, capacity=2, handled=0, dropped=3)
    go_on.set()
    assert worker.stop(SOON)
    assert points(reader) == expected(size=0, capacity=2, handled=2, dropped=3, LookupError=1)


def test_a_worker_that_is_left_yields_nothing_and_is_not_kept(
    reader: InMemoryMetricReader, step_metrics: StepMetrics
) -> None:
    worker = worker_of()
    step_metrics.watch(worker)
    worker.put(record(0))
    assert worker.stop(SOON)
    assert points(reader) == expected(size=0, capacity=2, handled=1, dropped=0)
    step_metrics.unwatch(worker)
    assert points(reader) == []
    step_metrics.unwatch(worker)
    kept = weakref.ref(worker)
    del worker
    gc.collect()
    assert kept() is None


def test_a_worker_that_is_forgotten_is_not_kept(
    reader: InMemoryMetricReader, step_metrics: StepMetrics
) -> None:
    worker = worker_of()
    step_metrics.watch(worker)
    kept = weakref.ref(worker)
    del worker
    gc.collect()
    assert kept() is None
    assert points(reader) == []


def test_the_next_worker_counts_on(reader: InMemoryMetricReader, step_metrics: StepMetrics) -> None:
    for handled, capacity in ((1, 3), (2, 4)):
        worker = worker_of(capacity=capacity)
        step_metrics.watch(worker)
        worker.put(record(0))
        assert worker.stop(SOON)
        assert points(reader) == expected(size=0, capacity=capacity, handled=handled, dropped=0)
        step_metrics.unwatch(worker)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_counts_anew(
    reader: InMemoryMetricReader, step_metrics: StepMetrics
) -> None:
    former, worker = worker_of(), worker_of()
    step_metrics.watch(former)
    former.put(record(0))
    assert former.stop(SOON)
    step_metrics.unwatch(former)
    step_metrics.watch(worker)
    worker.put(record(0))
    assert worker.flush(SOON)
    assert points(reader) == expected(size=0, capacity=2, handled=2, dropped=0)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # whatever happens here must end here
        try:
            at_first = points(reader) == expected(size=0, capacity=2, handled=0, dropped=0)
            in_time = worker.put(record(1)) and worker.stop(SOON)
            then = points(reader) == expected(size=0, capacity=2, handled=1, dropped=0)
            os.write(writing, f"{at_first} {in_time} {then}".encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading) as said:
        assert said.read() == "True True True"
    assert worker.stop(SOON)
    assert points(reader) == expected(size=0, capacity=2, handled=2, dropped=0)


TRAINING = """
import logging, os, sys
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.support.steps_without_torch import Training

logging.basicConfig(format="%(message)s", stream=sys.stdout)
reader = InMemoryMetricReader()
provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(SimpleSpanProcessor(InMemorySpanExporter()))

def set_provider():
    metrics.set_meter_provider(MeterProvider([reader], shutdown_on_exit=False))

def handled():
    data = reader.get_metrics_data()
    return [
        point.value
        for of_resource in (data.resource_metrics if data else ())
        for of_scope in of_resource.scope_metrics
        for metric in of_scope.metrics
        if (of_scope.scope.name, metric.name) == ("otel_torch_modules", "torch.sdk.processor.step.processed")
        for point in metric.data.data_points
        if "error.type" not in point.attributes
    ]

def train(steps):
    training = Training(provider)
    for index in range(steps):
        training.step(index)
    return training
"""


@pytest.mark.parametrize(
    "source",
    [
        "set_provider(); training = train(3)",
        "training = train(3); set_provider()",
        "train(1).stop(30); set_provider(); training = train(2)",
    ],
    ids=["before", "after", "between"],
)
def test_the_programs_meter_provider_is_used_whenever_it_comes(
    run_program: Callable[..., subprocess.CompletedProcess[str]], source: str
) -> None:
    ending = "training.flush(30); before = handled(); training.stop(30); print(before, handled())"
    done = run_program(f"{TRAINING}\n{source}\n{ending}\n")
    # The last step is held back until the end.
    assert (done.stdout, done.stderr) == ("[2] []\n", "")


def test_at_exit_the_numbers_are_there_until_the_meter_provider_has_read_them(
    run_program: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    # Called last in, first out: ours is registered by the first step.
    source = "import atexit\natexit.register(lambda: print(handled()))\nset_provider()\n"
    done = run_program(f"{TRAINING}\n{source}\ntraining = train(3)\n")
    assert (done.stdout, done.stderr) == ("[3]\n", "")


def test_a_meter_provider_that_cannot_be_loaded_stops_nothing(
    run_program: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    source = """
os.environ["OTEL_PYTHON_METER_PROVIDER"] = "nowhere"
print(Training(provider).stop(30))
"""
    done = run_program(TRAINING + source)
    said = (
        "OTEL_PYTHON_METER_PROVIDER=nowhere is not installed; "
        "there are: default_meter_provider, sdk_meter_provider; it is ignored"
    )
    assert (done.stdout.splitlines(), done.stderr, done.returncode) == ([said, "True"], "", 0)
