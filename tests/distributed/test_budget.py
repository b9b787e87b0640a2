"""Ranks of different speed with one budget: each picks a stride for itself, and their steps still fit together."""

from __future__ import annotations

import pytest

from otel_torch_modules import Config
from otel_torch_modules._recording.cost.calibration import CallCost
from otel_torch_modules._recording.cost.spending import Spending
from otel_torch_modules.testing import Captured, CapturedSpan
from tests.distributed.simulation import DemoStep, SimulatedRank, record_demo_step

STEPS = 96
CONFIG = Config(max_overhead=0.02)

# How much slower than the first rank's processor each rank's is. All wait for the slowest in every step.
SLOWNESS = (1, 30, 3, 8)
_STEP_NS = 100_000_000


class Rank:
    """A rank whose processor is so many times slower, and its clocks."""

    def __init__(self, number: int, slowness: int, step: DemoStep, captured: Captured) -> None:
        assert CONFIG.max_overhead is not None
        self.strides: list[int] = []
        self._slowness = slowness
        self._time = 0
        self._worker_time = 0
        self._spending = Spending(
            CONFIG.max_overhead,
            CONFIG.schedule,
            measure=lambda _: CallCost(1_000 * slowness, 10 * slowness, 0),
            clock=lambda: self._time,
            worker_clock=lambda: self._worker_time,
        )
        self._simulated = SimulatedRank(
            number, step, captured.provider, CONFIG, len(SLOWNESS), self._spending
        )

    def step(self, index: int) -> None:
        """Record a step and send it."""
        record = self._simulated.send(index)
        assert record is not None
        assert record.stride is not None
        self.strides.append(record.stride)
        self._spending.spend(5_000 * self._slowness)
        self._spending.step_closes(record)
        self._time += _STEP_NS
        self._spending.worker_turns_to(record)
        self._worker_time += (20_000 if record.phases_only else 500_000) * self._slowness


@pytest.fixture(scope="module")
def job() -> tuple[list[Rank], list[CapturedSpan]]:
    """The ranks after their steps, and the root spans of all traces."""
    captured, step = Captured(), record_demo_step()
    ranks = [Rank(number, slow, step, captured) for number, slow in enumerate(SLOWNESS)]
    for index in range(STEPS):
        for rank in ranks:
            rank.step(index)
    return ranks, captured.trees


def full_steps(traces: list[CapturedSpan], rank: int) -> list[int]:
    """Return the steps that a rank recorded with modules, as its spans say."""
    return [
        int(str(trace.attributes["torch.step"]))
        for trace in traces
        for span in trace.find(f"rank {rank}")
        if span.find("forward mlp")
    ]


def test_each_rank_has_a_stride_of_its_own(job: tuple[list[Rank], list[CapturedSpan]]) -> None:
    ranks, _ = job
    assert [rank.strides[-1] for rank in ranks] == [1, 64, 2, 8]


def test_what_the_busiest_rank_records_in_full_is_recorded_in_full_by_all(
    job: tuple[list[Rank], list[CapturedSpan]],
) -> None:
    _, traces = job
    full = [full_steps(traces, rank) for rank in range(len(SLOWNESS))]
    assert full[1] == [0, 1, 2, 3, 64]
    assert set(full[1]) <= set(full[3]) <= set(full[2]) <= set(full[0])
    assert [len(steps) for steps in full] == [96, 5, 50, 15]


def test_every_trace_has_one_root_and_all_ranks(
    job: tuple[list[Rank], list[CapturedSpan]],
) -> None:
    _, traces = job
    assert [
        (
            root.name,
            root.span.parent,
            root.attributes["torch.step"],
            sorted(c.name for c in root.children),
        )
        for root in traces
    ] == [
        ("train.step", None, index, [f"rank {rank}" for rank in range(len(SLOWNESS))])
        for index in range(STEPS)
    ]
    assert len({trace.span.context.trace_id for trace in traces if trace.span.context}) == STEPS


def test_root_and_rank_spans_tell_the_stride(job: tuple[list[Rank], list[CapturedSpan]]) -> None:
    ranks, traces = job
    for number, rank in enumerate(ranks):
        spans = [span for trace in traces for span in trace.find(f"rank {number}")]
        assert [span.attributes["torch.step.stride"] for span in spans] == rank.strides
    assert [root.attributes["torch.step.stride"] for root in traces] == ranks[0].strides
