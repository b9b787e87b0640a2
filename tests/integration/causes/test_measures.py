"""What is measured of a step as a whole: the time that its thread ran, what put it aside, the device's memory."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from otel_torch_modules import Config, step
from otel_torch_modules._recording.causes import host
from otel_torch_modules._recording.causes.device_memory import Counted, DeviceMemory
from otel_torch_modules._recording.causes.measures import Measures
from otel_torch_modules._records import Record
from otel_torch_modules.testing import CapturedSpan, capture_spans
from tests.support.caused import traced, train
from tests.support.simdev.run import on_the_device

BUSY = 0.03  # s
LOOK = 0.005  # s, and much less: to look itself, which comes right after the step's end
CPU_TIME, SWITCHES = "torch.step.cpu_time", "torch.step.involuntary_switches"
TRACING_TIME = "torch.step.tracing_time"
SOON = 30.0  # s; reached only when something hangs
HOST = {CPU_TIME, SWITCHES, "torch.step.major_faults", TRACING_TIME}


def keep_busy() -> None:
    until = time.thread_time() + BUSY
    while time.thread_time() < until:
        pass


def cpu_time(tree: CapturedSpan) -> float:
    value = tree.attributes[CPU_TIME]
    assert isinstance(value, float)
    return value


def said(tree: CapturedSpan) -> set[str]:
    """Return which attributes the step has that all have not."""
    return set(tree.attributes) - {"torch.phase", "torch.step", "torch.step.micro_batches"}


@pytest.mark.parametrize("place", ["in_forward", "in_backward", "before_step"])
def test_the_time_that_the_thread_ran_is_that_of_its_step(place: str) -> None:
    trees, _ = traced(**{place: keep_busy})
    assert [cpu_time(tree) >= BUSY for tree in trees] == [False, True, False]
    for tree in trees:
        assert cpu_time(tree) - LOOK <= (tree.end - tree.start) / 1e9
        assert {CPU_TIME} <= said(tree) <= HOST


def test_what_a_thread_sleeps_is_not_counted() -> None:
    trees, _ = traced(in_forward=lambda: time.sleep(BUSY))
    slept = trees[1]
    assert cpu_time(slept) - LOOK <= (slept.end - slept.start) / 1e9 - BUSY


def test_between_two_steps_it_is_the_later_ones() -> None:
    trees, _ = traced(between=keep_busy)
    assert [cpu_time(tree) >= BUSY for tree in trees] == [False, False, True]
    for one, other in pairwise(trees):
        assert other.start == one.end


def test_of_steps_that_are_set_by_hand() -> None:
    with capture_spans() as captured:
        for index in range(3):
            with step(index):
                train(1, at=0, in_forward=keep_busy if index == 1 else lambda: None)
            keep_busy()
    assert [cpu_time(tree) >= BUSY for tree in captured.trees] == [False, True, False]


def test_switches_are_counted() -> None:
    """Another process that is always ready takes the processor away."""
    resource = pytest.importorskip("resource", reason="counted on Linux alone")
    everywhere = os.sched_getaffinity(0)
    here = min(everywhere)
    seen = 0

    def wait_until_it_was_put_aside() -> None:
        nonlocal seen
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw
        while not seen:
            seen = resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw - before

    competitor = [sys.executable, "-c", f"import os; os.sched_setaffinity(0, [{here}])\nwhile 1: 0"]
    with subprocess.Popen(competitor) as process:
        os.sched_setaffinity(0, [here])
        try:
            trees, _ = traced(in_forward=wait_until_it_was_put_aside)
        finally:
            os.sched_setaffinity(0, everywhere)
            process.kill()
    counted = trees[1].attributes[SWITCHES]
    assert isinstance(counted, int)
    assert counted >= seen


def test_what_did_not_happen_is_not_said() -> None:
    resource = pytest.importorskip("resource", reason="counted on Linux alone")
    interruptions = host.Interruptions()
    before = resource.struct_rusage([*range(16)])  # 7 major faults, 15 involuntary switches
    after = resource.struct_rusage([*range(7), 9, *range(8, 15), 18])
    assert interruptions.since(before, before) == {}
    told = {
        attribute.name: value for attribute, value in interruptions.since(before, after).items()
    }
    assert told == {SWITCHES: 3, "torch.step.major_faults": 2}


class HeldExporter(SpanExporter):
    """Holds the thread that exports until the step that is open meanwhile says otherwise."""

    def __init__(self) -> None:
        self.begun, self.goes_on = threading.Event(), threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.begun.set()
        self.goes_on.wait(SOON)
        return SpanExportResult.SUCCESS

    def hold(self) -> None:
        assert self.begun.wait(SOON)
        keep_busy()
        self.goes_on.set()


@pytest.mark.parametrize(("causes", "told"), [(("host",), True), (("compile",), False)])
def test_a_step_says_for_how_long_others_were_exported_meanwhile(
    causes: tuple[str, ...], told: bool
) -> None:
    exporter = HeldExporter()
    with capture_spans(Config(causes=causes)) as captured:
        captured.provider.add_span_processor(SimpleSpanProcessor(exporter))
        train(in_forward=exporter.hold)
    before, meanwhile, _ = captured.trees
    time = meanwhile.attributes.get(TRACING_TIME)
    assert TRACING_TIME not in before.attributes
    if told:
        assert isinstance(time, float)
        assert BUSY <= time <= (meanwhile.end - meanwhile.start) / 1e9
    else:
        assert time is None


def test_another_threads_reading_is_none_of_the_steps() -> None:
    """Autograd's thread of a device may end a step; what it has read is of itself."""
    measures = Measures(host.HOST)
    record = Record("step", 0, 0, 0)
    measures.step_begins(0)
    thread = threading.Thread(target=measures.step_ends, args=(record, 1))
    thread.start()
    thread.join()
    measures.say(record)
    assert record.measured == {}
    measures.step_ends(record, 1)
    measures.say(record)
    assert len(record.measured) >= 1


def test_none_is_measured_where_none_is_chosen() -> None:
    trees, _ = traced(Config(causes=("compile",)), in_forward=keep_busy)
    assert [said(tree) for tree in trees] == [set()] * 3


def counted(retries: int, allocs: int, ooms: int, *, on: int = 0) -> Counted:
    """Return how the counts of the device with the number `on` stand."""
    stats = {
        "allocated_bytes": {"all": {"current": 10, "peak": 30}},
        "reserved_bytes": {"all": {"current": 40}},
        "num_alloc_retries": retries,
        "num_device_alloc": allocs,
        "num_ooms": ooms,
    }
    return Counted(torch.device("cuda", on), stats)


RETRIES, ALLOCS, OOMS = (
    f"torch.device.memory.{name}" for name in ("alloc_retries", "device_allocs", "ooms")
)


@pytest.mark.parametrize(
    ("before", "after", "happened"),
    [
        (None, counted(0, 2, 0), {ALLOCS: 2}),
        (counted(1, 2, 0), counted(1, 2, 0), {}),
        (counted(1, 2, 0), counted(4, 7, 1), {RETRIES: 3, ALLOCS: 5, OOMS: 1}),
        (counted(1, 2, 0), counted(4, 7, 1, on=1), {}),
        (counted(4, 7, 1, on=1), counted(1, 2, 0), {}),
        (counted(1, 2, 0), None, None),
    ],
    ids=["first used", "nothing", "some", "another device", "back again", "gone"],
)
def test_of_the_allocator_its_differences_are_said(
    before: Counted | None, after: Counted | None, happened: dict[str, int] | None
) -> None:
    memory = "torch.device.memory."
    always = {memory + "allocated": 10, memory + "peak": 30, memory + "reserved": 40}
    told = {key.name: value for key, value in DeviceMemory().since(before, after).items()}
    assert told == ({} if happened is None else {**always, **happened})


ON_THE_DEVICE = """
import json

import torch

import tests.support.simdev.device
from otel_torch_modules.testing import capture_spans

counted = []
with capture_spans() as captured:
    torch.set_default_device("sim")
    for at in range(4):
        model = torch.nn.Linear(8, 8)
        sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        x = torch.ones(2, 8)
        kept = [torch.ones(1000 * at)]
        model(x).sum().backward()
        sgd.step()
        stats = torch.accelerator.memory_stats()
        names = ("allocated_bytes.all.current", "allocated_bytes.all.peak", "reserved_bytes.all.current")
        counted.append([stats[name] for name in names])
print(json.dumps([counted, [tree.attributes for tree in captured.trees]]))
"""


def test_the_memory_of_a_device_is_what_its_allocator_counts() -> None:
    counted, attributes = on_the_device("-c", ON_THE_DEVICE)
    names = [f"torch.device.memory.{name}" for name in ("allocated", "peak", "reserved")]
    assert [[of_step.get(name) for name in names] for of_step in attributes] == counted
    assert counted[3][0] > counted[1][0] > 0
