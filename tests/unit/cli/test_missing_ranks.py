"""A rank whose spans did not come says nothing: whoever reads what the others have sent is told."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import pytest

from otel_torch_modules.cli.main import main

Write = Callable[..., Path]
STEPS = 20


@pytest.fixture
def write_ranks(write_traces: Write, step: Any, sample: Any) -> Write:
    """Return a function that writes steps of ranks, and leaves out some steps of some."""

    def write(
        ranks: Collection[int],
        left_out: Mapping[int, Collection[int]] = {},
        size: int | None = None,
        name: str = "run.jsonl",
    ) -> Path:
        steps = []
        for index in range(STEPS):
            one = step(index, 100.0 * index)
            spans = tuple(
                sample(
                    f"rank {rank}",
                    "rank",
                    one.start,
                    one.end,
                    one.children,
                    {**one.attributes, "torch.distributed.rank": rank},
                )
                for rank in ranks
                if index not in left_out.get(rank, ())
            )
            steps.append(one._replace(children=spans))
        about: dict[str, Any] = {"service.name": "train", "service.instance.id": name}
        if size is not None:
            about["torch.distributed.world_size"] = size
        return write_traces(*steps, resources=[about] * STEPS, name=name)

    return write


@pytest.mark.parametrize("size", [4, None])
@pytest.mark.parametrize(
    ("left_out", "said"),
    [
        ({0: [15]}, "rank 0 is missing in 1 of 20 steps (15)"),
        ({3: range(11, 20)}, "rank 3 is missing in 9 of 20 steps (11, 12, 13 …)"),
        (
            {0: [15], 3: range(11, 20)},
            "rank 3 is missing in 9 of 20 steps (11, 12, 13 …), rank 0 in 1 (15)",
        ),
        (
            {1: [7, 8], 2: [7], 3: [7]},
            "rank 1 is missing in 2 of 20 steps (7, 8), rank 2 in 1 (7), rank 3 in 1 (7)",
        ),
    ],
    ids=["one step", "the rest", "two", "three"],
)
def test_where_a_rank_is_missing(
    left_out: Mapping[int, Collection[int]],
    said: str,
    size: int | None,
    write_ranks: Write,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = write_ranks(range(4), left_out, size)
    for command in (
        ["why"],
        ["view"],
        ["stragglers"],
        ["convert", "--to", "chrome", "-o", "/dev/null"],
    ):
        assert main([*command, str(path)]) == 0
        printed = capsys.readouterr()
        assert f"{path}: {said}.\n" in printed.out + printed.err
    assert main(["doctor", str(path)]) == 1
    assert f"✗ {path}: {said}\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("ranks", "size", "heading", "said"),
    [
        ([1, 2, 3], 4, "3 of 4 ranks", "steps of 3 of the job's 4 ranks, none of rank 0"),
        ([0, 8], 16, "2 of 16 ranks", "steps of 2 of the job's 16 ranks, none of ranks 1, 2, 3 …"),
        (
            [0, 9],
            10**18,
            f"2 of {10**18} ranks",
            f"steps of 2 of the job's {10**18} ranks, none of",
        ),
        ([1], 4, "1 of 4 ranks", ""),
        ([0, 1, 2, 3], 4, "4 ranks", ""),
        ([0, 1, 2, 3], None, "4 ranks", ""),
        ([0, 1, 2, 3], 2, "4 ranks", ""),
    ],
    ids=str,
)
def test_ranks_that_are_in_no_step(
    ranks: list[int],
    size: int | None,
    heading: str,
    said: str,
    write_ranks: Write,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = write_ranks(ranks, {}, size)
    assert main(["why", str(path)]) == 0
    printed = capsys.readouterr().out
    assert f"20 steps · {heading} · " in " ".join(printed.split())
    assert ("none of rank" in printed) is bool(said)
    assert said in printed
    assert main(["doctor", str(path)]) == 0  # RANKS may have left them out


def test_doctor_takes_files_of_a_rank_each_together(
    write_ranks: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [
        str(write_ranks([rank], {3: range(11, 20)}, 4, f"rank-{rank}.jsonl")) for rank in range(4)
    ]
    assert main(["doctor", *files]) == 1
    said = "these 4 files: rank 3 is missing in 9 of 20 steps (11, 12, 13 …)"
    assert f"1 thing is wrong:\n✗ {said}\n" in capsys.readouterr().out
    assert main(["doctor", *files[:3]]) == 0


def test_ranks_of_a_job_that_went_on_with_fewer_are_not_missed(
    write_ranks: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = write_ranks(range(4), {}, 4, "before.jsonl").read_text().splitlines()
    fewer = write_ranks(range(2), {}, 2, "after.jsonl").read_text().splitlines()
    path = tmp_path / "both.jsonl"
    path.write_text("\n".join([*whole[:10], *fewer[10:]]) + "\n")
    assert main(["view", str(path)]) == 0
    assert "missing" not in capsys.readouterr().out
