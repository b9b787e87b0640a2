"""Which trace a step belongs to, in a job of many ranks."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import pytest
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

from otel_torch_modules import Config
from otel_torch_modules._job import launchers
from otel_torch_modules._job.identity import JobIdentity, step_ids
from otel_torch_modules._job.launchers import JobPlace
from otel_torch_modules._records import Record, SharedStep

TORCHRUN = {"TORCHELASTIC_RUN_ID": "a", "TORCHELASTIC_RESTART_COUNT": "0", "WORLD_SIZE": "4"}


def identity(
    rank: int, environ: Mapping[str, str] = TORCHRUN, config: Config | None = None
) -> JobIdentity:
    return JobIdentity(config or Config(), {**environ, "RANK": str(rank)}, lambda: None)


def step(index: int | None) -> Record:
    return Record("eval" if index is None else "step", index, 0, 0)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, ""),
        ({"TORCHELASTIC_RUN_ID": "17"}, "17"),
        ({"TORCHELASTIC_RUN_ID": "none"}, ""),
        ({"TORCHELASTIC_RUN_ID": "none", "SLURM_JOB_ID": "8", "SLURM_STEP_ID": "0"}, "8.0"),
        ({"RAY_JOB_ID": "01000000", "MASTER_ADDR": "a", "MASTER_PORT": "9"}, "01000000.a.9"),
        ({"RAY_JOB_ID": "01000000"}, ""),
        ({"PET_RDZV_ID": "job"}, "job"),
        ({"PET_MASTER_ADDR": "job-node-0-0.job", "PET_MASTER_PORT": "1"}, "job-node-0-0.job.1"),
        ({"SLURM_JOB_ID": "8"}, "8"),
        ({"PMIX_NAMESPACE": "prterun-host-1@1"}, "prterun-host-1@1"),
        ({"I_MPI_HYDRA_UUID": "87660000-3f1e"}, "87660000-3f1e"),
        # What comes first counts.
        ({"TORCHELASTIC_RUN_ID": "17", "PET_RDZV_ID": "job", "SLURM_JOB_ID": "8"}, "17"),
        ({"SLURM_JOB_ID": "8", "SLURM_STEP_ID": "1", "PMIX_NAMESPACE": "slurm.pmix.8.1"}, "8.1"),
        # `mpirun` in an allocation: its ranks see different steps of Slurm.
        (
            {
                "OMPI_COMM_WORLD_RANK": "0",
                "PMIX_NAMESPACE": "prterun-host-1@1",
                "SLURM_JOB_ID": "8",
                "SLURM_STEP_ID": "0",
            },
            "prterun-host-1@1",
        ),
        ({"MPI_LOCALRANKID": "0", "SLURM_JOB_ID": "8", "SLURM_STEP_ID": "0"}, "8"),
    ],
)
def test_run_id(environ: Mapping[str, str], expected: str) -> None:
    assert launchers.run_id(environ) == expected


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}, JobPlace(3, 4, 1)),
        ({"RANK": "3"}, None),
        ({"RANK": "x", "WORLD_SIZE": "4"}, None),
        ({"RANK": "4", "WORLD_SIZE": "4"}, None),
        (
            {
                "OMPI_COMM_WORLD_RANK": "2",
                "OMPI_COMM_WORLD_SIZE": "4",
                "OMPI_COMM_WORLD_LOCAL_RANK": "0",
                "SLURM_PROCID": "1",
                "SLURM_STEP_NUM_TASKS": "2",
            },
            JobPlace(2, 4, 0),
        ),
        ({"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "1"}, JobPlace(1, 2, 1)),
        (
            {"SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "8", "SLURM_LOCALID": "1"},
            JobPlace(5, 8, 1),
        ),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, None),
    ],
)
def test_place(environ: Mapping[str, str], expected: JobPlace | None) -> None:
    assert launchers.place(environ) == expected


def test_every_variable_has_a_source() -> None:
    for rows in (launchers.RUN_VARIABLES, launchers.RANK_VARIABLES):
        assert all(row.launcher and row.source for row in rows)


def test_all_ranks_compute_the_same_ids() -> None:
    records = [step(7) for _ in range(4)]
    ids = [identity(rank).shared_ids(record) for rank, record in enumerate(records)]
    assert ids[0] is not None
    assert ids == [ids[0]] * 4
    assert [record.shared for record in records] == [
        SharedStep(ids[0].span_id, rank, sent_here=rank == 0) for rank in range(4)
    ]


def test_the_lowest_rank_that_records_sends_the_step() -> None:
    config = Config(ranks="2-3")
    records = [step(0) for _ in range(4)]
    for rank, record in enumerate(records):
        identity(rank, config=config).shared_ids(record)
    assert [record.shared and record.shared.sent_here for record in records] == [
        False,
        False,
        True,
        False,
    ]
    assert [identity(rank, config=config).part().records for rank in range(4)] == [
        False,
        False,
        True,
        True,
    ]


def test_ranks_with_modules() -> None:
    config = Config(detail_ranks="*/2")
    assert [identity(rank, config=config).part().records_modules for rank in range(4)] == [
        True,
        False,
        True,
        False,
    ]


@pytest.mark.parametrize(
    "environ",
    [
        {**TORCHRUN, "TORCHELASTIC_RUN_ID": "b"},
        {**TORCHRUN, "TORCHELASTIC_RESTART_COUNT": "1"},
        {**TORCHRUN, "SLURM_RESTART_COUNT": "1"},
        {**TORCHRUN, "WORLD_SIZE": "3"},
    ],
)
def test_another_run_or_start_has_other_traces(environ: Mapping[str, str]) -> None:
    first, other = identity(1).shared_ids(step(0)), identity(1, environ).shared_ids(step(0))
    assert first is not None
    assert other is not None
    assert {first.trace_id, first.span_id}.isdisjoint({other.trace_id, other.span_id})


def test_the_configured_run_id_wins() -> None:
    one = identity(0, config=Config(run_id="x")).shared_ids(step(0))
    assert one == identity(0, {**TORCHRUN, "TORCHELASTIC_RUN_ID": "x"}).shared_ids(step(0))


def test_steps_that_are_numbered_anew_are_other_steps() -> None:
    runs = [identity(rank) for rank in (0, 3)]
    ids = [[run.shared_ids(step(index)) for index in (0, 1, 2, 0, 1, 5, 5)] for run in runs]
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 7


def test_evaluations_after_a_step_are_shared_too_and_told_apart() -> None:
    def ids(run: JobIdentity) -> list[object]:
        records = [step(0), *(Record("eval", 0, 0, 0) for _ in range(3)), step(1)]
        return [run.shared_ids(record) for record in [*records, Record("eval", 1, 0, 0)]]

    found = [ids(identity(rank)) for rank in (0, 3)]
    assert found[0] == found[1]
    assert len(set(found[0])) == 6
    assert None not in found[0]


def test_all_ranks_tell_of_a_stall_in_one_trace_and_of_another_in_another() -> None:
    def ids(rank: int) -> list[int | None]:
        run = identity(rank)
        opened = step(1)
        if rank == 0:
            run.shared_ids(step(0))
            first = run.shared_ids(opened)
        else:  # between the two steps
            run.shared_ids(step(0))
            first = run.awaited_ids(1)
        stalls = [
            run.stall_ids(Record("stall", at, 0, 0), said) for at in (1, 2) for said in (0, 1)
        ]
        killed = run.killed_step(1)
        found = [*(one and one.trace_id for one in (first, *stalls)), killed and killed[0]]
        assert [killed and killed[1].rank] == [rank]
        return found

    assert ids(0) == ids(3)
    assert len({*ids(0)} - {None}) == 6


def test_without_a_run_no_stall_is_shared() -> None:
    run = identity(0, {**TORCHRUN, "TORCHELASTIC_RUN_ID": "none"})
    run.shared_ids(step(0))
    assert run.stall_ids(Record("stall", 0, 0, 0), 0) is None
    assert run.killed_step(0) is None
    assert run.awaited_ids(1) is None


def test_nothing_is_shared_by_a_job_of_one_process_or_outside_a_step() -> None:
    assert identity(0, {**TORCHRUN, "WORLD_SIZE": "1"}).shared_ids(step(0)) is None
    assert JobIdentity(Config(), {}, lambda: None).shared_ids(step(0)) is None
    assert identity(0).shared_ids(step(None)) is None


def test_the_process_group_counts_before_the_environment() -> None:
    # A launcher that starts one process for each node, which starts one for each device.
    environ = {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_JOB_ID": "8"}
    record = step(0)
    group: list[tuple[int, int] | None] = [None, (9, 16)]
    job = JobIdentity(Config(), environ, group.pop)
    assert job.shared_ids(record) is not None
    assert record.shared is not None
    assert record.shared.rank == 9


def test_a_forked_child_of_a_rank_is_not_the_rank() -> None:
    for group in (None, (1, 4)):
        job = JobIdentity(Config(), {**TORCHRUN, "RANK": "1"}, lambda group=group: group)
        assert job.shared_ids(step(0)) is not None
        job.after_fork_in_child()
        assert job.shared_ids(step(1)) is None


def test_a_forked_child_with_a_process_group_of_its_own_is_a_rank() -> None:
    groups: list[tuple[int, int] | None] = [None]
    job = JobIdentity(Config(run_id="x"), {}, lambda: groups[-1])
    job.after_fork_in_child()
    groups.append((3, 4))
    record = step(0)
    assert job.shared_ids(record) == identity(0, config=Config(run_id="x")).shared_ids(step(0))
    assert record.shared is not None
    assert record.shared.rank == 3


def test_without_a_run_id_one_rank_says_how_to_get_one(caplog: pytest.LogCaptureFixture) -> None:
    config = Config(ranks="1-3")  # rank 0 is not asked
    jobs = [identity(rank, {"WORLD_SIZE": "4"}, config) for rank in (1, 2, 3)]
    for index in range(3):
        assert [job.shared_ids(step(index)) for job in jobs] == [None] * 3
    assert [
        (record.levelno, "OTEL_TORCH_MODULES_RUN_ID" in record.message) for record in caplog.records
    ] == [(logging.WARNING, True)]


def test_a_name_of_the_run_that_is_no_utf_8_names_it_all_the_same() -> None:
    raw = b"caf\xe9".decode("utf-8", "surrogateescape")
    for config, environ in (
        (Config(run_id=raw), {}),
        (Config(), {"SLURM_JOB_ID": raw, "SLURM_STEP_ID": "0"}),
    ):
        of_ranks = [
            identity(rank, {"WORLD_SIZE": "2", **environ}, config).shared_ids(step(0))
            for rank in (0, 1)
        ]
        assert of_ranks[0] is not None
        assert of_ranks[0] == of_ranks[1]


def test_ids_are_unique_and_uniform_for_samplers_by_ratio() -> None:
    ids = [step_ids("run\0round", index) for index in range(20_000)]
    assert len({trace_id for trace_id, _ in ids} | {span_id for _, span_id in ids}) == 40_000
    assert all(0 < trace_id < 2**128 and 0 < span_id < 2**64 for trace_id, span_id in ids)
    sampler = TraceIdRatioBased(0.25)
    sampled = [
        sampler.should_sample(None, trace_id, "train.step").decision is Decision.RECORD_AND_SAMPLE
        for trace_id, _ in ids
    ]
    assert 0.24 < sum(sampled) / len(ids) < 0.26  # of fixed ids: always the same number
