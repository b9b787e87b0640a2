"""The lane of a step's device: where its phases ran there, beside a tree that is as it was."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_torch_modules import semconv
from otel_torch_modules._assembly.assembler import Assembler
from otel_torch_modules._assembly.left_behind import phases_of
from otel_torch_modules._events import EXIT, EXIT_BARE, MARK, OPTIMIZED, OPTIMIZER, WIDTH
from otel_torch_modules._records import DEVICE_DURATION, DEVICE_LAG, DeviceTimes, Record, SharedStep
from otel_torch_modules._site import Site
from otel_torch_modules._spans.columns import SpanColumns
from otel_torch_modules._spans.figures import StepFigures
from otel_torch_modules._spans.span import Span
from otel_torch_modules.config import Config
from tests.support.logs import THREAD
from tests.unit.assembly.repeating.test_repeats import (
    Loop,
    Reading,
    Training,
    loops,
    simple,
    ticks_from,
    tree_of,
)

OF_DEVICE = (DEVICE_DURATION, DEVICE_LAG)


def with_device(record: Record, behind: int, slower: int, *, of_modules: bool) -> Record:
    """Return `record` with a device that comes to it so far behind, and then takes so many times as long.

    It comes to all that there is, or as in most steps to what is no module's below another.
    """
    log = record.log
    calls = 0
    times = {}
    for tag, time in zip(log[::WIDTH], log[3::WIDTH], strict=True):
        calls -= tag in (EXIT, EXIT_BARE)
        if of_modules or (not calls and tag is not MARK):
            times[time] = record.start + behind + slower * (time - record.start)
        calls += isinstance(tag, Site)
    device = DeviceTimes(times, {}, of_modules=of_modules)
    return replace(record, log=log.copy(), device=device)


def lane_of(top: Span) -> Any:
    """Return the lane below the last head, as names and times."""
    lanes = [span for span in top.children if span.phase == semconv.PHASE_DEVICE]
    assert list(top.children)[-len(lanes) or len(top.children) :] == lanes  # after all else
    for lane in lanes:
        assert lane.parent is top
        assert {(span.kind, *span.attributes.items()) for span in lane.walk()} == {
            (0, (semconv.PHASE, semconv.PHASE_DEVICE))
        }
    return [_times(lane) for lane in lanes]


def _times(span: Span) -> Any:
    return span.name, span.start, span.end, [_times(child) for child in span.children]


def said(span: Span, *, of_device: bool = True) -> Any:
    """Return all of a tree but its lane; without what the device says of its spans, where not `of_device`."""
    return (
        span.name,
        span.start,
        span.end,
        span.attributes,
        {
            key: value
            for key, value in span.said.items()
            if value is not None and (of_device or key not in OF_DEVICE)
        },
        [said(child, of_device=of_device) for child in span.on_host],
    )


@settings(deadline=None)
@given(loops(), st.booleans(), st.booleans(), st.data())
def test_a_tree_with_it_is_the_tree_without_it_and_adds_up_to_the_same(
    loop: Loop, of_modules: bool, of_several_ranks: bool, data: st.DataObject
) -> None:
    loop.late = False
    training = Training(ticks_from(data))
    assembler, reading, plain = Assembler(Config()), Reading(Config()), Reading(Config())
    heads = 2 if of_several_ranks else 1
    for index in range(4):
        record = training.step(loop)
        record.shared = SharedStep(1, 0, sent_here=True) if of_several_ranks else None
        with_times = with_device(record, 10**6, 7, of_modules=of_modules)
        tree = assembler.assemble(with_times)
        assert isinstance(tree, SpanColumns) is (index >= 2)
        found, figures, phases = tree_of(tree), StepFigures().of(tree, heads), phases_of(tree, 0)
        read, bare = reading.assemble(with_times), plain.assemble(record)
        assert isinstance(read, Span)
        assert isinstance(bare, Span)
        tops = [
            next(iter(root.children)) if of_several_ranks else root for root in (found, read, bare)
        ]
        lane, same, none = map(lane_of, tops)
        assert none == []
        assert lane == same != []
        assert said(found) == said(read)
        assert said(read, of_device=False) == said(bare, of_device=False)
        # What is added up is so too, and so is what is left behind by a process that is killed.
        alone = StepFigures().of(bare, heads)
        assert figures.phases == pytest.approx(alone.phases)
        assert figures.modules == pytest.approx(alone.modules)
        assert phases == phases_of(bare, 0) == phases_of(read, 0)
        # It says what the spans beside it say of themselves.
        assert [ran[1:3] for ran in lane[0][3]] == sorted(
            (start, start + round(values[DEVICE_DURATION] * 1e9))
            for child in tops[1].on_host
            for values in [child.said]
            if values.get(DEVICE_LAG) is not None
            and child.phase in ("forward", "backward", "optimizer")
            for start in [child.start + round(values[DEVICE_LAG] * 1e9)]
        )
        if isinstance(tree, SpanColumns):
            tree.release()
            assert tree.lane is not None
            assert tree.lane.children == ()


def optimized(record: Record) -> Record:
    """Add an optimizer to it, with another inside."""
    for event, said, time in (
        (OPTIMIZER, "Lbfgs", 82),
        (OPTIMIZER, "Sgd", 84),
        (OPTIMIZED, None, 86),
        (OPTIMIZED, None, 88),
    ):
        record.log.extend((event, THREAD, None, record.start + time, said))
    return record


def test_has_what_lies_right_below_the_step_by_the_times_of_the_device() -> None:
    tree = Reading(Config()).assemble(
        with_device(optimized(simple(1_000)), 10_000, 2, of_modules=True)
    )
    assert isinstance(tree, Span)
    assert lane_of(tree) == [
        (
            "device",
            11_000,
            11_176,
            [
                ("forward", 11_000, 11_060, []),
                ("backward", 11_080, 11_160, []),
                ("optimizer", 11_164, 11_176, []),
            ],
        )
    ]


def test_there_is_none_where_no_phase_has_times() -> None:
    """Those of two modules below, and of a backward whose begin the device has not told."""
    record = simple(1_000)
    record.device = DeviceTimes({1_010: 2_000, 1_020: 2_010, 1_080: 3_000}, {}, of_modules=True)
    tree = Reading(Config()).assemble(record)
    assert isinstance(tree, Span)
    assert lane_of(tree) == []
