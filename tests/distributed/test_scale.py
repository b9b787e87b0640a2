"""A thousand ranks, simulated with the real identity, assembly and encoding."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

from otel_torch_modules import Config
from otel_torch_modules._job.identity import step_ids
from tests.distributed.simulation import (
    WORLD_SIZE,
    DemoStep,
    SimulatedRank,
    record_demo_step,
    run_job,
    trace_size,
)

STEPS = 50  # alike from the third on
MANY_STEPS = 200
PHASE_SPANS = 10  # the rank's, and data wait, forward and two of backward in two micro-batches, and the optimizer's
ALL_SPANS = 210


@pytest.fixture(scope="module")
def step() -> DemoStep:
    return record_demo_step()


@pytest.mark.slow
def test_every_step_is_one_trace_with_one_root_and_all_ranks(step: DemoStep) -> None:
    sink = run_job(step, Config(detail_ranks="0"), STEPS)
    assert sink.spans == len(sink.ids) == STEPS * (1 + ALL_SPANS + (WORLD_SIZE - 1) * PHASE_SPANS)
    assert len(sink.roots) == STEPS
    assert set(sink.roots.values()) == {1}
    assert set(sink.ranks.values()) == {WORLD_SIZE}
    run = "simulated\0" + "0.0" + f"\0{WORLD_SIZE}\0" + "0"
    assert sink.parents == {
        trace_id: {span_id}
        for trace_id, span_id in (step_ids(run, index) for index in range(STEPS))
    }


@pytest.mark.slow
def test_samplers_agree_on_all_ranks(step: DemoStep) -> None:
    provider = TracerProvider(
        sampler=ParentBasedTraceIdRatio(0.1), resource=Resource({}), shutdown_on_exit=False
    )
    kept = set()
    for number in range(WORLD_SIZE):
        rank = SimulatedRank(number, step, provider, Config())
        kept.add(tuple(index for index in range(MANY_STEPS) if rank.open(index) is not None))
    (steps,) = kept
    assert 5 < len(steps) < 40  # of fixed ids: always the same ones


def test_where_the_lowest_rank_does_not_record_another_sends_the_root(step: DemoStep) -> None:
    sink = run_job(step, Config(ranks="3-5", detail_ranks="7"), 2, world_size=8)
    assert set(sink.roots.values()) == {1}
    assert set(sink.ranks.values()) == {3}
    assert sink.spans == 2 * (1 + 3 * PHASE_SPANS)


def test_detail_on_few_ranks_makes_traces_small(step: DemoStep) -> None:
    spans, size = trace_size(step, Config(detail_ranks="0"), world_size=64)
    all_spans, all_size = trace_size(step, Config(), world_size=64)
    assert spans == 1 + ALL_SPANS + 63 * PHASE_SPANS
    assert all_spans == 1 + 64 * ALL_SPANS
    assert size / spans < 300
    assert all_size / all_spans < 400
    assert all_size > 12 * size
