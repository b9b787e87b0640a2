"""Which rank the others waited for, in files made by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from otel_torch_modules.cli.main import main


@pytest.fixture
def shared_step(sample: type[Any]) -> Callable[..., Any]:
    """Return a function that makes a step of ranks that exchange gradients at the end of backward.

    Args: for each rank the milliseconds before its step, waiting for data, and in its two blocks; by how much the
    clock of each rank is fast, and what the exchange says of itself, where it has a span; a span after the optimizer,
    and its milliseconds on each rank.
    """

    def exchanges(begun: float, end: float, about: dict[str, Any] | None) -> tuple[Any, ...]:
        return () if about is None else (sample("all_reduce", "collective", begun, end, (), about),)

    def make(
        index: int,
        *ranks: tuple[float, float, float, float],
        start: float = 0,
        phases_only: tuple[int, ...] = (),
        fast: tuple[float, ...] = (0, 0, 0, 0),
        exchange: dict[str, Any] | None = None,
        tail: tuple[str, str | None] | None = None,
        tails: tuple[float, ...] = (0, 0, 0, 0),
    ) -> Any:
        spans = []
        for number, (late, wait, first, second) in enumerate(ranks):
            exchanged = start + max(map(sum, ranks)) + 10 + fast[number]
            begun = start + late + fast[number]
            fetched = begun + wait
            between, forwarded = fetched + first, fetched + first + second
            blocks = (
                sample("forward h.0", "forward", fetched, between, (), _of("GPT.h.0")),
                sample("forward h.1", "forward", between, forwarded, (), _of("GPT.h.1")),
            )
            below = (
                sample("dataloader.next", "data", begun, fetched),
                sample(
                    "forward GPT",
                    "forward",
                    fetched,
                    forwarded,
                    () if number in phases_only else blocks,
                    _of("GPT"),
                ),
                sample(
                    "backward",
                    "backward",
                    forwarded,
                    exchanged,
                    (
                        sample(
                            "backward GPT", "backward", forwarded, forwarded + 5, (), _of("GPT")
                        ),
                        *exchanges(forwarded + 5, exchanged, exchange),
                    ),
                ),
                sample("optimizer.step SGD", "optimizer", exchanged, exchanged + 1),
            )
            end = exchanged + 1 + tails[number]
            if tail is not None:
                below += (sample(*tail, exchanged + 1, end),)
            about = {"torch.step": index, "torch.distributed.rank": number}
            spans.append(sample(f"rank {number}", "rank", begun, end, below, about))
        first_rank = spans[0]
        return sample(
            "train.step",
            "step",
            first_rank.start,
            first_rank.end,
            tuple(spans),
            {"torch.step": index, "torch.step.micro_batches": 1},
        )

    return make


@pytest.fixture
def printed_of(
    write_traces: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Return a function that returns what `stragglers` prints of steps."""

    def printed(*steps: Any) -> str:
        assert main(["stragglers", str(write_traces(*steps))]) == 0
        return capsys.readouterr().out

    return printed


def _of(fqn: str) -> dict[str, str]:
    return {"torch.module.fqn": fqn}


EVEN = (0.0, 1.0, 10.0, 10.0)


def test_each_step_names_its_last_rank(
    shared_step: Callable[..., Any],
    printed_of: Callable[..., str],
) -> None:
    printed = printed_of(
        shared_step(0, EVEN, EVEN, (0, 1, 10, 40), EVEN),
        shared_step(1, EVEN, EVEN, (0, 1, 30, 10), EVEN, start=1000),
        shared_step(2, EVEN, (0, 9, 10, 10), EVEN, EVEN, start=2000),
        shared_step(3, (7, 1, 10, 10), EVEN, EVEN, EVEN, start=3000),
        shared_step(4, EVEN, EVEN, (0, 1, 10, 25), EVEN, start=4000),
    )
    assert printed == (
        "    step  ranks   last  behind ms  where\n"
        "       0      4      2      30.00  forward GPT.h.1\n"
        "       1      4      2      20.00  forward GPT.h.0\n"
        "       2      4      1       8.00  dataloader.next\n"
        "       3      4      0       7.00  before the step\n"
        "       4      4      2      15.00  forward GPT.h.1\n"
        "\n"
        "Rank 2 was last in 3 of 5 steps, by 20.00 ms at the median; it lost time most\n"
        "often in forward GPT.h.1.\n"
    )


def _exchange(ranks: int = 4, completed: bool = True) -> dict[str, Any]:
    return {
        "torch.collective.group.size": ranks,
        "torch.collective.completed": completed,
    }


@pytest.mark.parametrize("number", range(4))
def test_the_rank_whose_collective_is_the_shortest_came_last_whatever_the_clocks_say(
    number: int,
    shared_step: Callable[..., Any],
    printed_of: Callable[..., str],
) -> None:
    ranks = [EVEN] * 4
    ranks[number] = (0, 1, 10, 40)
    clocks = (-700.0, 0.0, 60.0, 200.0)
    assert f"      {number}      30.00  forward GPT.h.1\n" in printed_of(
        shared_step(0, *ranks, start=1000, fast=clocks, exchange=_exchange())
    )


@pytest.mark.parametrize("exchange", [None, _exchange(ranks=2), _exchange(completed=False)])
@pytest.mark.parametrize("clock", [-700.0, -9.0, 0.0, 9.0, 50.0, 200.0, 5_000.0])
@pytest.mark.parametrize("other", [0, 1, 3])
def test_where_not_all_ranks_met_or_nobody_knows_when_ends_are_compared_but_for_a_wrong_clock(
    exchange: dict[str, Any] | None,
    clock: float,
    other: int,
    shared_step: Callable[..., Any],
    printed_of: Callable[..., str],
) -> None:
    ranks = EVEN, EVEN, (0, 1, 10, 40), EVEN
    clocks = tuple(clock if number == other else 0 for number in range(4))
    printed = printed_of(shared_step(0, *ranks, start=9000, fast=clocks, exchange=exchange))
    assert "      2      30.00  forward GPT.h.1\n" in printed
    told = f"In 1 step a rank is behind all the while, by {clock:.2f} ms at most"
    assert (told in printed) == (clock > 30)


@pytest.mark.parametrize("clock", [5.0, 50.0, 5_000.0])
def test_a_rank_whose_clock_is_wrong_is_told_by_what_it_loses(
    clock: float,
    shared_step: Callable[..., Any],
    printed_of: Callable[..., str],
) -> None:
    fast = (0, 0, clock, 0)
    printed = printed_of(
        shared_step(0, EVEN, EVEN, (0, 1, 10, 40), EVEN, start=9000, fast=fast),
        shared_step(1, EVEN, EVEN, (8, 1, 10, 10), EVEN, start=10_000, fast=fast),
        shared_step(2, EVEN, EVEN, EVEN, EVEN, start=11_000, fast=fast),
    )
    assert "       0      4      2      30.00  forward GPT.h.1\n" in printed
    assert "       1      4      2       8.00  before the step\n" in printed
    assert re.search(r"^ +2 +4 +\d +0\.00 ", printed, re.MULTILINE)


@pytest.mark.parametrize("exchange", [_exchange(), None], ids=["met", "no meeting"])
@pytest.mark.parametrize(
    ("tail", "place", "sentence"),
    [
        (("optimizer.step Adam", "optimizer"), "optimizer.step Adam", "in optimizer.step Adam"),
        (("my logging", None), "my logging", "in my logging"),
        (("between", "between"), "between its phases", "between its phases"),
        (None, "between its phases", "between its phases"),
    ],
    ids=str,
)
def test_a_rank_that_begins_late_lost_that_where_the_step_before_ended(
    tail: tuple[str, str | None] | None,
    place: str,
    sentence: str,
    exchange: dict[str, Any] | None,
    shared_step: Callable[..., Any],
    write_traces: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    late = (15, 1, 10, 10)
    slow = {"exchange": exchange, "tail": tail, "tails": (0.5, 0.5, 15.5, 0.5)}
    path = write_traces(
        shared_step(0, EVEN, EVEN, EVEN, EVEN, **slow),
        shared_step(1, EVEN, EVEN, late, EVEN, start=32.5, **slow),
        shared_step(2, EVEN, EVEN, late, EVEN, start=80, **slow),
    )
    assert main(["stragglers", str(path)]) == 0
    row = capsys.readouterr().out.splitlines()[3]
    assert row == f"       2      4      2      15.00  {place}, the step before"
    assert main(["view", "--step", "2", str(path)]) == 0
    assert " ".join(capsys.readouterr().out.split()).endswith(
        f"Rank 2 was last, 15.00 ms behind: it lost them {sentence} at the end of the step before."
    )


def test_where_ranks_are_last_alike_none_is_said_to_be_so_most_often(
    shared_step: Callable[..., Any],
    printed_of: Callable[..., str],
) -> None:
    printed = printed_of(
        shared_step(0, EVEN, (0, 1, 10, 40), EVEN),
        shared_step(1, (0, 1, 30, 10), EVEN, EVEN, start=1000),
    )
    assert " ".join(printed.splitlines()[4:]) == (
        "No rank is last more often than all others: ranks 0 and 1 were, in 1 of 2 steps each."
    )


def test_the_time_line_runs_from_the_first_start_to_the_last_end_of_all_ranks(
    shared_step: Callable[..., Any],
    write_traces: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    late = shared_step(0, (20, 1, 10, 10), (0, 1, 10, 40))
    path = write_traces(late._replace(end=late.end - 15))  # the root is as its own rank says
    assert main(["view", "--slowest", "--depth", "1", str(path)]) == 0
    scale, step, zero, one = capsys.readouterr().out.splitlines()[2:6]
    assert scale.endswith(" 62.00 ms")  # rank 1 begins 20 ms before rank 0, and with it the step
    assert one.rstrip().endswith("█")
    assert len(step.rstrip()) < len(one.rstrip()) == len(zero.rstrip())


def test_two_ranks_are_compared_with_each_other(
    shared_step: Callable[..., Any],
    printed_of: Callable[..., str],
) -> None:
    assert "       0      2      0      12.00  forward GPT.h.1\n" in printed_of(
        shared_step(0, (0, 1, 10, 22), EVEN)
    )


def test_where_some_ranks_record_phases_only_phases_are_compared(
    shared_step: Callable[..., Any],
    printed_of: Callable[..., str],
) -> None:
    assert "      2      30.00  forward GPT\n" in printed_of(
        shared_step(0, EVEN, EVEN, (0, 1, 10, 40), phases_only=(1, 2))
    )


def test_each_rank_has_a_file_of_its_own(
    shared_step: Callable[..., Any],
    write_traces: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = write_traces(shared_step(0, EVEN, (0, 1, 40, 10), EVEN))
    request = json.loads(path.read_text())
    (spans,) = (scope["spans"] for scope in request["resourceSpans"][0]["scopeSpans"])
    ranks = [at for at, span in enumerate(spans) if span["name"].startswith("rank")]
    files = []
    # The step's own span is sent by another rank, whose file is not here.
    for at, following in zip(ranks[1:], [*ranks[2:], len(spans)], strict=True):
        request["resourceSpans"][0]["scopeSpans"][0]["spans"] = spans[at:following]
        files.append(tmp_path / f"{at}.jsonl")
        files[-1].write_text(json.dumps(request) + "\n")
    assert main(["stragglers", *map(str, files)]) == 0
    assert "       0      2      1      30.00  forward GPT.h.0\n" in capsys.readouterr().out
    assert main(["view", "--list", str(files[0])]) == 0
    assert "\n     ▸ 0" in capsys.readouterr().out


def test_the_tree_of_a_step_is_grouped_by_rank_and_names_the_last(
    shared_step: Callable[..., Any],
    write_traces: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = write_traces(shared_step(0, (3, 1, 10, 10), EVEN, (0, 1, 10, 40)))
    assert main(["view", "--slowest", "--depth", "1", str(path)]) == 0
    *_, zero, one, two, verdict = capsys.readouterr().out.splitlines()
    assert [row.split()[1:3] for row in (zero, one, two)] == [["rank", str(n)] for n in range(3)]
    assert verdict == "Rank 2 was last, 28.50 ms behind: it lost them in forward GPT.h.1."


def _rank(sample: type[Any], number: int, begun: float, forwarded: float, end: float) -> Any:
    below = (
        sample("dataloader.next", "data", begun, begun + 1),
        sample("forward GPT", "forward", forwarded, forwarded + 10, (), _of("GPT")),
        sample("backward", "backward", forwarded + 10, end),
    )
    about = {"torch.step": 0, "torch.distributed.rank": number}
    return sample(f"rank {number}", "rank", begun, end, below, about)


@pytest.mark.parametrize(
    ("begun", "forwarded", "column", "sentence"),
    [
        (0, 26, "between its phases", "it lost them between its phases."),
        (25, 26, "before the step", "it began the step 25.00 ms late."),
    ],
)
def test_time_that_is_lost_in_no_span_is_said_to_be(
    begun: float,
    forwarded: float,
    column: str,
    sentence: str,
    sample: type[Any],
    write_traces: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    ranks = (_rank(sample, 0, begun, forwarded, 40), _rank(sample, 1, 0, 1, 40))
    path = write_traces(sample("train.step", "step", 0, 40, ranks, {"torch.step": 0}))
    assert main(["stragglers", str(path)]) == 0
    _, row, _, summary = capsys.readouterr().out.splitlines()
    assert row == f"       0      2      0      25.00  {column}"
    assert summary == f"Rank 0 was last, by 25.00 ms; it lost them {column}."
    assert main(["view", "--slowest", str(path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"Rank 0 was last, 25.00 ms behind: {sentence}"
    )


def test_a_step_that_was_cut_is_not_compared(
    shared_step: Callable[..., Any],
    write_traces: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = write_traces(
        shared_step(0, EVEN, EVEN, (0, 1, 10, 40)),
        shared_step(1, EVEN, EVEN, (0, 1, 10, 40), start=1000),
    )
    path.write_text(path.read_text()[:-300])
    with path.open("a") as file:
        file.write("\n")
    assert main(["stragglers", str(path)]) == 0
    lost, _, row, _, summary = capsys.readouterr().out.splitlines()
    assert lost == f"{path}: line 2 is not an OTLP JSON trace request and was left out."
    assert row.split()[:3] == ["0", "3", "2"]
    assert summary.startswith("Rank 2 was last, by 30.00 ms; ")


@pytest.mark.parametrize("files", [1, 2])
def test_one_file_holds_and_two_hold(
    files: int,
    step: Callable[..., Any],
    write_traces: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = str(write_traces(step(0), step(1, 100)))
    holds = f"{path} holds" if files == 1 else "these 2 files hold"
    assert main(["stragglers", *[path] * files]) == 2
    assert capsys.readouterr().err == f"otel-torch-modules: {holds} no step of several ranks\n"
    has, it_has = (f"{path} has", "it has") if files == 1 else ("these 2 files have", "they have")
    assert main(["view", "--step", "7", *[path] * files]) == 2
    assert capsys.readouterr().err == (
        f"otel-torch-modules: {has} no step 7; {it_has} 2 steps, from 0 to 1\n"
    )


def test_there_must_be_several_ranks(
    step: Callable[..., Any], write_traces: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_traces(step(0))
    assert main(["stragglers", str(path)]) == 2
    assert capsys.readouterr().err == (
        f"otel-torch-modules: {path} holds no step of several ranks\n"
    )


def _on_device(sample: type[Any], number: int, took: float, lag: float) -> Any:
    """Return a rank whose program is done in 4 ms, and whose device takes longer for the forward."""

    def of_device(lag: float, took: float) -> dict[str, float]:
        return {"torch.device.lag": lag / 1e3, "torch.device.duration": took / 1e3}

    forward = of_device(lag, took)
    # Where backward ends gradients are exchanged: on all devices at once.
    backward = of_device(lag + took - 1, 100 - lag - took)
    below = (
        sample("forward GPT", "forward", 1, 2, (), {**_of("GPT"), **forward}),
        sample("backward", "backward", 2, 4, (), backward),
    )
    about = {"torch.step": 0, "torch.distributed.rank": number, **of_device(90, 100)}
    return sample(f"rank {number}", "rank", 0, 4, below, about)


def test_where_devices_say_when_they_came_there_it_is_these_times_that_are_compared(
    sample: type[Any], write_traces: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    ranks = tuple([_on_device(sample, number, 40 if number == 2 else 10, 5) for number in range(4)])
    path = write_traces(sample("train.step", "step", 0, 4, ranks, {"torch.step": 0}))
    assert main(["stragglers", str(path)]) == 0
    _, row, *_ = capsys.readouterr().out.splitlines()
    assert row == "       0      4      2      30.00  forward GPT on the device"
    assert main(["view", "--slowest", str(path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "Rank 2 was last, 30.00 ms behind: it lost them in forward GPT on the device."
    )


def test_where_one_device_says_nothing_programs_are_compared(
    sample: type[Any], printed_of: Callable[..., str]
) -> None:
    ranks = (_rank(sample, 0, 0, 20, 40), _on_device(sample, 1, 40, 5))
    printed = printed_of(sample("train.step", "step", 0, 40, ranks, {"torch.step": 0}))
    assert "on the device" not in printed
