"""Strides: powers of two, the smallest that keeps the budget, steady; the first steps in full, whatever they cost."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from otel_torch_modules._recording.cost.budget import FULL_AT_FIRST, LARGEST_STRIDE, Budget

MS = 1_000_000
STRIDES = [1 << power for power in range(LARGEST_STRIDE.bit_length())]


@dataclass(frozen=True)
class Job:
    """What each step takes and costs, in nanoseconds."""

    step: float
    phases: float = 0.0
    modules: float = 0.0
    worker_phases: int = 0
    worker_full: int = 0

    def run(self, budget: Budget, steps: int = 64, start: int = 0) -> list[bool]:
        """Return which of these steps were recorded in full."""
        recorded = []
        for ordinal in range(start, start + steps):
            full = budget.records_modules(ordinal)
            budget.add_interval(self.step)
            budget.add_cost(self.phases, self.modules)
            budget.add_record(self.worker_full if full else self.worker_phases, modules=full)
            recorded.append(full)
        return recorded


jobs = st.builds(
    Job,
    step=st.floats(1e5, 1e9),
    phases=st.floats(0, 1e6),
    modules=st.floats(0, 1e8),
    worker_phases=st.integers(0, 10**6),
    worker_full=st.integers(0, 10**8),
)
fractions = st.floats(1e-4, 1)


@given(jobs, fractions)
def test_the_stride_is_the_smallest_power_of_two_that_keeps_the_budget(
    job: Job, fraction: float
) -> None:
    budget = Budget(fraction)
    job.run(budget)
    assert budget.stride in STRIDES
    keeps = [stride for stride in STRIDES if budget.cost_ns(stride) <= budget.allowed_ns]
    assert budget.stride == min(keeps, default=LARGEST_STRIDE)


def test_what_a_stride_costs() -> None:
    # A quarter more than what is measured: 3 µs for phases, 100 µs more for modules.
    job = Job(step=10 * MS, phases=1_000, modules=60_000, worker_phases=2_000, worker_full=42_000)
    budget = Budget(0.001)
    job.run(budget)
    assert budget.allowed_ns == 10_000
    assert [budget.cost_ns(stride) for stride in (1, 2, 4, 100)] == [128_750, 66_250, 35_000, 5_000]
    assert budget.stride == 32


@given(st.lists(st.tuples(jobs, fractions), min_size=2, max_size=4), st.integers(0, 10**6))
def test_what_the_busiest_records_in_full_is_recorded_in_full_by_all(
    ranks: list[tuple[Job, float]], start: int
) -> None:
    recorded = []
    for job, fraction in ranks:
        budget = Budget(fraction)
        job.run(budget)
        recorded.append((budget.stride, job.run(budget, 256, start)))
    _, busiest = max(recorded)
    for _, other in recorded:
        assert all(mine for mine, full in zip(other, busiest, strict=True) if full)


@given(jobs, st.integers(0, 10**6))
def test_the_first_steps_are_recorded_in_full(job: Job, start: int) -> None:
    assert all(job.run(Budget(1e-9), FULL_AT_FIRST, start))


def test_a_job_that_is_cheap_is_recorded_in_full_from_first_to_last() -> None:
    job = Job(step=10 * MS, phases=1_000, modules=1_000, worker_phases=1_000, worker_full=1_000)
    assert all(job.run(Budget(0.01), 100))


def test_until_the_worker_has_told_its_time_nothing_more_is_in_full() -> None:
    budget = Budget(1)
    assert [budget.records_modules(ordinal) for ordinal in range(8)] == 4 * [True] + 4 * [False]
    assert budget.stride == LARGEST_STRIDE
    for _ in range(3):
        budget.add_interval(MS)
        budget.add_record(1_000, modules=True)
    assert budget.records_modules(8)
    assert budget.stride == 1


def test_a_first_record_in_which_all_is_new_does_not_count() -> None:
    budget = Budget(0.01)
    budget.add_record(10_000 * MS, modules=True)
    Job(step=10 * MS, worker_full=20_000).run(budget)
    assert budget.stride == 1


def test_a_checkpoint_between_two_steps_does_not_count() -> None:
    budget = Budget(0.01)
    job = Job(step=10 * MS, modules=300_000)
    job.run(budget)
    assert budget.stride == 4
    budget.add_interval(60_000 * MS)
    job.run(budget, 16, 64)
    assert budget.stride == 4


def test_the_stride_follows_the_job_both_ways() -> None:
    budget = Budget(0.01)
    strides = []
    for modules in (50_000, 5_000_000, 50_000):
        Job(step=10 * MS, modules=modules).run(budget)
        strides.append(budget.stride)
    assert strides == [1, 64, 1]


def test_a_job_at_the_edge_keeps_its_stride() -> None:
    budget = Budget(0.01)
    strides = []
    for round_ in range(20):
        Job(step=10 * MS, modules=170_000 if round_ % 2 else 150_000).run(budget, 16, 16 * round_)
        strides.append(budget.stride)
    assert set(strides[2:]) == {4}


def test_phases_alone_over_budget_for_a_while_are_out_of_reach() -> None:
    budget = Budget(0.01)
    job = Job(step=10 * MS, phases=150_000, modules=1_000)
    job.run(budget, 32)
    assert not budget.out_of_reach
    job.run(budget, 64, 32)
    assert budget.out_of_reach
    assert budget.stride == LARGEST_STRIDE
    Job(step=100 * MS, phases=150_000, modules=1_000).run(budget, 32, 96)
    assert not budget.out_of_reach
