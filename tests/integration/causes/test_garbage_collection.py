"""A long collection of garbage has a span where it struck, and keeps nothing from the program."""

from __future__ import annotations

import gc
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import pytest

from otel_torch_modules import Config
from otel_torch_modules._events import WIDTH
from otel_torch_modules._reading.traces import Traces
from otel_torch_modules._recording.causes import garbage_collection
from otel_torch_modules._recording.causes.happened import Happened
from otel_torch_modules._records import Record
from otel_torch_modules.testing import capture_spans
from tests.support.caused import Clock, path_to, traced, train
from tests.support.training_program import ENABLED, run, said

if TYPE_CHECKING:
    from _typeshed import TraceFunction

LONG = 20_000_000  # ns; a full collection takes several times that here


@pytest.fixture(autouse=True)
def only_long_ones_that_are_asked_for(
    no_pauses_of_the_machines: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Make a full collection long, and all others none."""
    monkeypatch.setattr(garbage_collection, "SHORTEST", LONG)
    gc.disable()
    kept = [[number] for number in range(1_000_000)]
    yield
    kept.clear()
    gc.enable()


@pytest.mark.parametrize(
    ("place", "path"),
    [
        ("in_forward", ["train.step", "forward Net", "python.gc"]),
        (
            "in_backward",
            ["train.step", "backward", "backward Net", "backward act", "python.gc"],
        ),
        ("before_step", ["train.step", "python.gc"]),
    ],
)
def test_it_lies_where_it_struck(place: str, path: list[str]) -> None:
    clock = Clock()
    garbage: list[object] = []
    garbage.append(garbage)

    def collect() -> None:
        garbage.clear()
        for _ in range(100):
            circle: list[object] = []
            circle.append(circle)
        del circle
        with clock.around():
            gc.collect()

    trees, parameters = traced(**{place: collect})
    assert parameters == train()
    assert [tree.name for tree in trees] == ["train.step"] * 3
    found = [len(tree.find("python.gc")) for tree in trees]
    assert found == [0, 1, 0]
    assert path_to(trees[1], "python.gc") == path
    (span,) = trees[1].find("python.gc")
    collected = span.attributes.pop("cpython.gc.collected")
    assert isinstance(collected, int)
    assert collected >= 100
    assert {**span.attributes, "cpython.gc.collected": 0} == {
        "torch.phase": "gc",
        "cpython.gc.generation": 2,
        "cpython.gc.collected": 0,
    }
    assert span.span.kind.name == "INTERNAL"
    assert clock.holds(span)


def test_what_a_signal_handler_raises_after_a_long_collection_reaches_the_program() -> None:
    """Python handles the signal in the first code of its own that runs after it: that must be the program's."""

    def strike(_: int, __: FrameType | None) -> None:
        raise TimeoutError("the program's own")

    gc.collect()  # else destructors of other tests run in the next one, and their errors reach nobody
    before = signal.signal(signal.SIGALRM, strike)
    others, gc.callbacks[:] = (
        gc.callbacks[:],
        [],
    )  # Dynamo's own is Python code, and what it raises reaches nobody
    try:
        with capture_spans() as captured:
            for _ in range(3):
                signal.setitimer(signal.ITIMER_REAL, 0.005)
                with pytest.raises(TimeoutError, match="the program's own"):
                    gc.collect()
                train()
    finally:
        signal.signal(signal.SIGALRM, before)
        gc.callbacks[:] = others
    assert len(captured.trees) == 9


def test_nothing_is_watched_where_it_is_not_chosen() -> None:
    before = list(gc.callbacks)
    with capture_spans(Config(causes=("loop",))):
        assert gc.callbacks == before
    with capture_spans():
        assert gc.callbacks != before
    assert gc.callbacks == before


def test_a_program_that_clears_the_collectors_callbacks_is_left_as_it_wants_to_be() -> None:
    before = list(gc.callbacks)
    with capture_spans() as captured:
        gc.callbacks.clear()
        train()
    assert gc.callbacks == []
    gc.callbacks.extend(before)
    assert len(captured.trees) == 3


def test_more_than_are_kept_are_told_from_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of very many between two records the latest are known, each with its own times."""
    clock = Clock()

    def collect() -> None:
        for _ in range(10_000):
            gc.collect(0)
        with clock.around():
            gc.collect()

    trees, _ = traced(before_step=collect)
    # A short one takes long where the machine has other work meanwhile.
    *_, last = (span for tree in trees for span in tree.find("python.gc"))
    assert clock.holds(last)


def test_those_that_come_while_others_are_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between any two lines, where as many are kept as can be: each has its own times, and what is said of it."""
    monkeypatch.setattr(garbage_collection, "SHORTEST", 0)
    monkeypatch.setattr(garbage_collection, "_MOST", 4)
    happened = Happened(code=lambda: 0, fail=lambda _: True)
    watch = garbage_collection.GarbageCollection(happened, lambda _: 0)
    collected: list[tuple[int, int, int]] = []  # from when to when, which generation

    def collect() -> None:
        generation = len(collected) % 3
        start = time.perf_counter_ns()
        gc.collect(generation)
        collected.append((start, time.perf_counter_ns(), generation))

    def strike(frame: FrameType, event: str, _: object) -> TraceFunction | None:
        if frame.f_code is not watch.collect.__code__:
            return None
        if event == "line" and len(collected) < 40:
            collect()
        return strike

    watch.install()
    before = sys.gettrace()
    try:
        for _ in range(8):
            collect()
        sys.settrace(strike)
        watch.collect()
    finally:
        sys.settrace(before)
        watch.uninstall()
    record = Record("step", 0, 0, 0, end=2**63)
    happened.put_into(record)
    assert len(record.log) > 4 * WIDTH
    for place in range(0, len(record.log), WIDTH):
        _, _, begin, end, (_, (generation, _)) = record.log[place : place + WIDTH]
        assert [one for start, stop, one in collected if start <= begin <= end <= stop] == [
            generation
        ]


def test_in_the_bytes_of_a_step_that_is_like_those_before_it(tmp_path: Path) -> None:
    source = """
import gc, torch
gc.disable()

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(4, 4)
    def forward(self, x):
        if step >= 5:
            gc.collect()  # a few milliseconds: all of torch is looked at
        return self.fc(x)

model = torch.nn.Sequential(Net(), torch.nn.ReLU())
sgd = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(8):
    model(torch.ones(2, 4)).sum().backward()
    sgd.step()
"""
    said(run(tmp_path, source, **ENABLED, OTEL_TORCH_MODULES_CAUSES="gc"))
    (file,) = tmp_path.glob("*.jsonl")
    steps = Traces.read(file).steps
    found = [[span for span in step.walk() if span.name == "python.gc"] for step in steps]
    assert [len(spans) for spans in found] == [0] * 5 + [1] * 3
    for step, spans in zip(steps, found, strict=True):
        (forward,) = (span for span in step.walk() if span.name == "forward 0")
        if not spans:
            continue
        assert "python.gc" in [child.name for child in forward.children]
        inside = sum(span.duration for span in forward.children)
        own = forward.measure("torch.self_time")
        assert own is not None
        assert own * 1e9 == pytest.approx(forward.duration - inside, abs=1)
