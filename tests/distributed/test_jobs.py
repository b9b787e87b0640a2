"""Jobs as they are started, and as they come to grief: which traces arrive, and whether they are whole."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

from otel_torch_modules.cli.main import main
from tests.distributed.launch import PROGRAMS, command, finish, run, start
from tests.distributed.traces import Trace, read
from tests.support.backend_programs import free_ports

pytestmark = pytest.mark.slow


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "traces.jsonl"


def ranks(trace: Trace) -> list[str]:
    return [span.name for span in trace.ranks]


def assert_whole(traces: list[Trace], expected: list[str]) -> None:
    """Each trace has one span without parent, the step's, and below it exactly these ranks."""
    for trace in traces:
        assert [span.name for span in trace.parentless] == ["train.step"]
        assert trace.tops == trace.parentless
        assert ranks(trace) == expected


def test_two_nodes_with_a_rendezvous(file: Path) -> None:
    options = (
        "--nnodes=2",
        "--rdzv-id=night",
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint=127.0.0.1:{free_ports(1)[0]}",
        "--local-addr=127.0.0.1",
    )
    line = command("data_parallel.py", "ddp", ranks=2, options=options)
    for node in [start(line, file), start(line, file)]:
        finish(node)
    traces = read(file)
    assert [trace.step for trace in traces] == [0, 1]
    assert_whole(traces, ["rank 0", "rank 1", "rank 2", "rank 3"])


def test_ranks_that_the_program_spawns(file: Path) -> None:
    line = [sys.executable, str(PROGRAMS / "spawned.py"), str(free_ports(1)[0])]
    run(line, file, OTEL_TORCH_MODULES_RUN_ID="night")
    traces = read(file)
    assert [trace.step for trace in traces] == [0, 1]
    assert_whole(traces, ["rank 0", "rank 1"])


def test_without_a_run_id_each_rank_has_traces_of_its_own(file: Path) -> None:
    options = ("--nnodes=1", f"--master-port={free_ports(1)[0]}")
    process = start(command("apart.py", ranks=2, options=options), file)
    _, complained = process.communicate(timeout=120)
    assert process.returncode == 0, complained
    assert complained.count("OTEL_TORCH_MODULES_RUN_ID") == 1
    traces = read(file)
    assert sorted(trace.step for trace in traces if trace.step is not None) == [0, 0, 1, 1, 2, 2]
    assert [[span.name for span in trace.tops] for trace in traces] == [["train.step"]] * 6
    assert Counter(len(trace.ranks) for trace in traces) == {0: 6}


def test_some_ranks_record_and_fewer_in_detail(file: Path) -> None:
    variables = {"OTEL_TORCH_MODULES_RANKS": "1-3", "OTEL_TORCH_MODULES_DETAIL_RANKS": "*/2"}
    run(command("data_parallel.py", "ddp"), file, **variables)
    traces = read(file)
    assert_whole(traces, ["rank 1", "rank 2", "rank 3"])
    for trace in traces:
        assert [trace.parentless[0].resource == rank.resource for rank in trace.ranks] == [
            True,
            False,
            False,
        ]
        few, many, few_too = trace.ranks
        for rank in (few, few_too):
            assert rank.outline() == (
                f"{rank.name}\n"
                "  forward DistributedDataParallel\n"
                "  backward\n"
                "    backward DistributedDataParallel\n"
                "  optimizer.step SGD\n"
            )
        assert len(list(many.walk())) == 25


def test_the_span_that_started_the_job_is_linked_and_baggage_kept(file: Path) -> None:
    trace_id, span_id = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    said = run(
        command("apart.py", ranks=2),
        file,
        TRACEPARENT=f"00-{trace_id}-{span_id}-01",
        TRACESTATE="vendor=1",
        BAGGAGE="team=vision",
    )
    assert said == "{'team': 'vision'}\n"
    traces = read(file)
    assert_whole(traces, ["rank 0", "rank 1"])
    assert [trace.parentless[0].links for trace in traces] == [[(trace_id, span_id)]] * 3
    assert all(trace.parentless[0].trace_id != trace_id for trace in traces)
    ranks = [rank for trace in traces for rank in trace.ranks]
    assert [rank.links for rank in ranks] == [[(trace_id, span_id)]] * 6


def test_a_rank_that_skips_a_step_leaves_the_trace_of_the_others_whole(file: Path) -> None:
    run(command("apart.py", "skip:1:1", ranks=3), file)
    traces = {trace.step: trace for trace in read(file)}
    assert_whole([traces[0], traces[2]], ["rank 0", "rank 1", "rank 2"])
    assert_whole([traces[1]], ["rank 0", "rank 2"])


@pytest.mark.parametrize("kind", ["fork", "workers"])
def test_children_of_ranks_do_not_send_the_ranks_spans(file: Path, kind: str) -> None:
    run(command("apart.py", kind, ranks=2), file)
    traces = read(file)  # raises if a span is there twice
    of_ranks = [trace for trace in traces if trace.ranks]
    of_children = [trace for trace in traces if not trace.ranks]
    assert [trace.step for trace in of_ranks] == [0, 1, 2]
    assert_whole(of_ranks, ["rank 0", "rank 1"])
    # A child is in the middle of a step that its parent sends: its forwards are by themselves.
    assert [[span.name for span in trace.tops] for trace in of_children] == [["forward GPT"]] * (
        2 * 3 if kind == "fork" else 0
    )


@pytest.mark.parametrize("way", ["together", "apart"])
def test_a_rank_is_killed_and_the_job_starts_again(file: Path, way: str) -> None:
    # Without its shared store: with it, gloo in the second life meets the addresses of the first (torch 2.13).
    variables = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    options = ("--standalone", "--max-restarts=1")
    run(command("dying_rank.py", way, ranks=3, options=options), file, **variables)
    by_step: dict[int, list[Trace]] = {}
    for trace in sorted(read(file), key=lambda trace: trace.spans[0].start):
        by_step.setdefault(trace.step, []).append(trace)
    second = [traces.pop() for _, traces in sorted(by_step.items())]
    assert [trace.step for trace in second] == [0, 1, 2, 3, 4]
    assert_whole(second, ["rank 0", "rank 1", "rank 2"])
    # Sure to have come from the first life is what had been sent when the rank died. Its own steps may be among it.
    first = [trace for step in (0, 1) for trace in by_step[step]]
    assert [trace.step for trace in first] == [0, 1]
    for trace in first:
        assert [span.name for span in trace.parentless] == ["train.step"]
        assert trace.tops == trace.parentless
        assert ranks(trace)[:2] == ["rank 0", "rank 1"]


def test_a_slow_rank_is_found_and_the_others_wait_at_the_end_of_backward(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = 0.4
    run(command("slow_rank.py", "2", str(seconds)), file)
    assert main(["stragglers", str(file)]) == 0
    said = capsys.readouterr().out
    summary = " ".join(said.rpartition("\n\n")[2].split())
    assert summary.startswith("Rank 2 was last in 2 of 2 steps, by ")
    assert summary.endswith(" ms at the median; it lost time in forward GPT.h.1.")
    traces = read(file)
    assert_whole(traces, ["rank 0", "rank 1", "rank 2", "rank 3"])
    for trace in traces:
        for rank in trace.ranks:
            slept = rank.find("forward h.1")
            backward, modules = rank.find("backward"), rank.find("backward DistributedDataParallel")
            waited = (backward.end - modules.end) / 1e9
            if rank.name == "rank 2":
                assert (slept.end - slept.start) / 1e9 >= seconds
                assert waited < seconds / 2
            else:
                assert waited > seconds / 2


@pytest.mark.parametrize("by_hand", [False, True])
def test_ranks_that_join_are_told_that_their_steps_differ(file: Path, by_hand: bool) -> None:
    line = command("joining.py", *(["by_hand"] if by_hand else []), ranks=2)
    untraced = finish(start(line, None))
    process = start(line, file)
    said, complained = process.communicate(timeout=240)
    assert (process.returncode, said) == (0, untraced), complained
    told = "`with otel_torch_modules.step(index):` around each step of the loop says which are"
    found = {trace.step: ranks(trace) for trace in read(file)}
    both = ["rank 0", "rank 1"]
    if by_hand:
        assert complained.count(told) == 0
        assert found == {0: both, 1: both, 2: ["rank 1"], 8: both, 9: both}
    else:  # the third of rank 1 is in one trace with the first that the two make together after it
        assert complained.count(told) == 2
        assert found == {0: both, 1: both, 2: both, 3: both, 4: ["rank 1"]}
