"""Where ranks stood, and which is behind, in files made by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from otel_torch_modules.cli.main import main

REDUCES = ("backward, after GPT.h.0", "train.py:9 → torch/autograd/…_engine_run_backward")
LOADS = ("dataloader.next", "train.py:7 → dataset.py:51")
WRITES = ("", "train.py:12 → save.py:3")
NEITHER: list[str] = []


@pytest.fixture
def stall(sample: type[Any]) -> Callable[..., Any]:
    """Return a function that makes a stall. Args: by rank, its place, its frames and its collectives."""

    def make(ranks: dict[int, tuple[tuple[str, str], list[str]]], seconds: float = 60) -> Any:
        spans = []
        about = {"torch.step": 7, "torch.stall.reason": "no_progress"}
        for rank, ((place, frames), collectives) in ranks.items():
            said = {
                **about,
                "torch.stall.duration": round(seconds),
                "torch.distributed.rank": rank,
                "torch.stall.place": place,
                "torch.stall.frames": frames,
                "torch.stall.collectives": collectives,
            }
            spans.append(sample(f"rank {rank}", "rank", 0, 60_000, (), said))
        return sample("train.stall", "stall", 0, 60_000, tuple(spans), about)

    return make


@pytest.mark.parametrize(
    ("ranks", "sentence"),
    [
        (
            {0: (REDUCES, ["pg: all_reduce 9"]), 1: (REDUCES, ["pg: all_reduce 9"])}
            | {2: (LOADS, ["pg: all_reduce 8, ended"]), 3: (REDUCES, ["pg: all_reduce 9"])},
            "3 ranks wait in all_reduce (backward, after GPT.h.0); rank 2 is in dataloader.next, dataset.py:51.",
        ),
        (  # most ranks may be late: who has begun fewer collectives is behind
            {rank: (LOADS, ["pg: all_reduce 8, ended"]) for rank in (0, 1, 2)}
            | {3: (REDUCES, ["pg: all_reduce 9"])},
            "Rank 3 waits in all_reduce (backward, after GPT.h.0); 3 ranks are in dataloader.next, dataset.py:51.",
        ),
        (  # nothing is known of collectives
            {0: (REDUCES, NEITHER), 1: (REDUCES, NEITHER), 2: (WRITES, NEITHER)},
            "2 ranks are in backward, after GPT.h.0, torch/autograd/…_engine_run_backward; "
            "rank 2 is outside any phase, save.py:3.",
        ),
        ({0: (WRITES, NEITHER)}, "Rank 0 is outside any phase, save.py:3."),
    ],
)
def test_ranks_at_one_place_are_together_and_the_odd_one_comes_last(
    ranks: dict[int, Any],
    sentence: str,
    stall: Callable[..., Any],
    write_traces: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["stalls", str(write_traces(stall(ranks)))]) == 0
    assert capsys.readouterr().out.splitlines()[-2] == sentence


def test_all_that_is_known_is_told(
    stall: Callable[..., Any],
    write_traces: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    ranks = {
        0: (REDUCES, ["pg: all_reduce 9"]),
        3: (REDUCES, ["pg: all_reduce 9"]),
        1: (LOADS, NEITHER),
    }
    path = write_traces(stall(ranks))
    assert main(["stalls", str(path)]) == 0
    assert capsys.readouterr().out == (
        "At step 7, no progress for 60 s, trace 00000000000000000000000000000001\n"
        "  ranks 0, 3: backward, after GPT.h.0; train.py:9 → torch/autograd/…_engine_run_backward\n"
        "      pg: all_reduce 9\n"
        "  rank 1: dataloader.next; train.py:7 → dataset.py:51\n"
        "  no word from rank 2\n"
        "2 ranks wait in all_reduce (backward, after GPT.h.0); rank 1 is in dataloader.next, dataset.py:51.\n"
        "\n"
    )


IN_SUBGROUP = ("", "train.py:12 → torch/distributed/…all_reduce")
TORN: dict[str, tuple[dict[int, Any], dict[int, Any], list[str]]] = {
    "one waits in a group of two": (
        {
            0: (IN_SUBGROUP, ["pg: all_reduce 8, ended", "tp: all_reduce 5"]),
            1: (WRITES, ["pg: all_reduce 8, ended", "tp: all_reduce 4, ended"]),
        },
        {2: (REDUCES, ["pg: all_reduce 9", "tp: all_reduce 3, ended"])},
        [
            "  rank 2, step 8: backward, after GPT.h.0; train.py:9 → torch/autograd/…_engine_run_backward",
            "      pg: all_reduce 9; tp: all_reduce 3, ended",
            "  rank 0, step 7: outside any phase; train.py:12 → torch/distributed/…all_reduce",
            "      pg: all_reduce 8, ended; tp: all_reduce 5",
            "  rank 1, step 7: outside any phase; train.py:12 → save.py:3",
            "      pg: all_reduce 8, ended; tp: all_reduce 4, ended",
            "Rank 2 waits in all_reduce (backward, after GPT.h.0); rank 0 waits in all_reduce "
            "(torch/distributed/…all_reduce); rank 1 is outside any phase, save.py:3.",
        ],
    ),
    "nothing is known of collectives": (
        {0: (WRITES, NEITHER)},
        {1: (REDUCES, NEITHER), 2: (REDUCES, NEITHER)},
        [
            "  ranks 1, 2, step 8: backward, after GPT.h.0; train.py:9 → torch/autograd/…_engine_run_backward",
            "  rank 0, step 7: outside any phase; train.py:12 → save.py:3",
            "2 ranks are in backward, after GPT.h.0, torch/autograd/…_engine_run_backward; "
            "rank 0 is outside any phase, save.py:3.",
        ],
    ),
}


@pytest.mark.parametrize("name", TORN)
def test_ranks_that_stand_in_neighbouring_steps_at_once_are_one_stall(
    name: str,
    stall: Callable[..., Any],
    write_traces: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    behind, ahead, lines = TORN[name]
    said = [
        _said(stall(ranks, 60 * times), step, begun, 60 * times)
        for times in (1, 2)  # it is said again after twice the time
        for ranks, step, begun in ((behind, 7, 0), (ahead, 8, 20))
    ]
    assert main(["stalls", str(write_traces(*said))]) == 0
    ids = [f"{number:032x}" for number in (1, 2, 3, 4)]
    assert capsys.readouterr().out.splitlines() == [
        f"At steps 7, 8, no progress for 60 s, traces {ids[0]}, {ids[1]}",
        *lines,
        "",
        f"At steps 7, 8, no progress for 120 s, traces {ids[2]}, {ids[3]}",
        *lines,
        "",
    ]


@pytest.mark.parametrize("apart", [61, 3_600])
def test_what_ranks_say_one_after_the_other_is_of_two_stalls(
    apart: float,
    stall: Callable[..., Any],
    write_traces: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = write_traces(
        _said(stall({1: (WRITES, NEITHER)}), 7, 0, 60),
        _said(stall({0: (LOADS, NEITHER)}), 8, apart, 60),
    )
    assert main(["stalls", str(path)]) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("At step")]
    assert [line.partition(",")[0] for line in said] == ["At step 7", "At step 8"]


@pytest.mark.parametrize(("ahead", "stalls"), [(8, 1), (90, 2)])
def test_ranks_of_one_job_are_killed_in_neighbouring_steps(
    ahead: int, stalls: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for rank, step in enumerate((7, ahead)):
        shared = [f"{step:032x}", "1", rank, False]
        left = {"shared": shared, "step": step, "place": "backward", "modules": []}
        (tmp_path / f"rank-{rank}.json").write_text(json.dumps(left))
    assert main(["stalls", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert said.count("killed, trace") == stalls
    assert ("no word" in said) is (stalls > 1)


def _said(stall: Any, step: int, begun: float, seconds: float) -> Any:
    """Return a stall that began at a time, in s, and was told of so many seconds later."""

    def moved(sample: Any) -> Any:
        below = tuple(map(moved, sample.children))
        return sample._replace(end=(begun + seconds) * 1e3, children=below)

    return _at(moved(stall), step)


def test_a_job_of_one_process(
    sample: type[Any], write_traces: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    said = {"torch.step": 3, "torch.stall.duration": 60, "torch.stall.reason": "no_progress"}
    said |= {
        "torch.stall.place": "forward GPT.h.1",
        "torch.stall.frames": "train.py:9 → model.py:3",
    }
    assert main(["stalls", str(write_traces(sample("train.stall", "stall", 0, 9, (), said)))]) == 0
    assert capsys.readouterr().out == (
        "At step 3, no progress for 60 s, trace 00000000000000000000000000000001\n"
        "  forward GPT.h.1; train.py:9 → model.py:3\n"
        "The process is in forward GPT.h.1, model.py:3.\n"
        "\n"
    )


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ([4], "{} holds 1 stall, at step 4: "),
        ([4, 4], "{} holds 2 stalls, at step 4: "),
        ([9, 4, 4, 7, 8], "{} holds 5 stalls, at steps 4, 7, 8 …: "),
        ([None], "{} holds 1 stall: "),
    ],
)
@pytest.mark.parametrize("command", ["view", "view --list", "why", "why --step 1", "report -o out"])
def test_who_looks_at_the_steps_is_told_of_stalls(
    command: str,
    steps: list[int | None],
    told: str,
    stall: Callable[..., Any],
    sample: type[Any],
    write_traces: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    stalls = [_at(stall({0: (LOADS, NEITHER), 1: (WRITES, NEITHER)}), step) for step in steps]
    path = write_traces(
        *(sample("train.step", "step", at, at + 9, (), {"torch.step": at // 10}) for at in (0, 10)),
        *stalls,
    )
    assert main([*command.split(), str(path)]) == 0
    said = f"{told.format(path)}otel-torch-modules stalls says where the job stood still."
    assert said in capsys.readouterr().out.splitlines()


def _at(stall: Any, step: int | None) -> Any:
    """Return a stall in another step, or in none."""
    about = {key: value for key, value in stall.attributes.items() if key != "torch.step"}
    about |= {} if step is None else {"torch.step": step}
    return stall._replace(
        attributes=about, children=tuple(_at(child, step) for child in stall.children)
    )


def test_a_job_that_hung_before_its_first_step_was_over_is_told_of(
    stall: Callable[..., Any],
    write_traces: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = write_traces(stall({0: (LOADS, NEITHER)}))
    assert main(["view", str(path)]) == 2
    assert capsys.readouterr().err == (
        f"otel-torch-modules: {path} holds 2 spans, but neither a training step nor a forward pass "
        f"({path} holds 1 stall, at step 7: otel-torch-modules stalls says where the job stood still)\n"
    )


def test_without_a_stall_that_is_said(
    sample: type[Any], write_traces: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_traces(sample("train.step", "step", 0, 9, (), {"torch.step": 0}))
    assert main(["stalls", str(path)]) == 2
    assert "there is no stall here" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["view"], ["stragglers"]])
def test_a_stall_whose_root_was_not_sent_is_no_step(
    command: list[str],
    sample: type[Any],
    stall: Callable[..., Any],
    write_traces: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    # The rank that sends the root was stopped, for one.
    whole = stall({0: (REDUCES, NEITHER), 1: (LOADS, NEITHER)})
    assert main([*command, str(write_traces(*whole.children))]) == 2
    assert "neither a training step nor a forward pass" in capsys.readouterr().err
