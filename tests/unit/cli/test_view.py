"""What `otel-torch-modules view` prints, whole."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from otel_torch_modules.cli.main import main
from otel_torch_modules.cli.step_tree import Cut
from otel_torch_modules.cli.view import View

Write = Callable[..., Path]
Show = Callable[..., str]


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Show:
    """Return a function that runs `view` on a console without colours and returns what it printed."""
    for name in ("FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: object, width: int = 80) -> str:
        monkeypatch.setenv("COLUMNS", str(width))
        assert main(["view", *map(str, arguments)]) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        return "\n" + captured.out

    return run


def test_overview(write_traces: Write, step: Any, show: Show) -> None:
    path = write_traces(step(0), step(1, 100, wait=8), step(2, 200, wait=3))
    assert (
        show(path)
        == """
    step         ms    data  forward  backward  recompute  optimizer  between
       0      79.00    2.5%    25.3%     53.2%      10.1%       5.1%     3.8%
     ▸ 1      85.00    9.4%    23.5%     49.4%       9.4%       4.7%     3.5%
       2      80.00    3.8%    25.0%     52.5%      10.0%       5.0%     3.8%
  median      80.00    3.8%    25.0%     52.5%      10.0%       5.0%     3.8%
The steps cover 87.1% of 0.28 s; the rest: between steps 12.9%.

step 1, 85.00 ms, 1 micro-batch, trace 00000000000000000000000000000002
                                     ms  0                              85.00 ms
train.step                        85.00  ███████████████████████████████████████
├─ dataloader.next                 8.00  ███▌
├─ forward GPT                    20.00     ▐█████████
│  ├─ forward h.0                  8.00      ████
│  │  ├─ forward ln                1.00      ▌
│  │  ├─ forward attn              4.00      ▐█▌
│  │  └─ forward mlp               3.00        ▐█
│  └─ forward h.1                  8.00          ▐███
│     ├─ forward ln                1.00          ▕
│     ├─ forward attn              4.00          ▐█▌
│     └─ forward mlp               3.00            ▐█
├─ backward                       50.00                ██████████████████████▌
│  └─ backward GPT                48.00                ██████████████████████
│     ├─ backward h.1             25.00                ▐███████████
│     │  └─ recompute h.1          8.00                ▐███▌
│     │     ├─ recompute ln        1.00                ▐
│     │     ├─ recompute attn      4.00                 ██
│     │     └─ recompute mlp       3.00                   █▌
│     └─ backward h.0              8.00                            ████
│        ├─ backward ln            1.00                            ▌
│        ├─ backward attn          4.00                            ▐█▌
│        └─ backward mlp           3.00                              ▐█
└─ optimizer.step AdamW            4.00                                       ██
"""
    )


def test_a_wide_table_has_bars(write_traces: Write, step: Any, show: Show) -> None:
    path = write_traces(step(0), step(1, 100, wait=81))
    assert (
        show(path, "--list", width=100)
        == """
    step         ms    data  forward  backward  recompute  optimizer  between
       0      79.00    2.5%    25.3%     53.2%      10.1%       5.1%     3.8%  ██████████
     ▸ 1     158.00   51.3%    12.7%     26.6%       5.1%       2.5%     1.9%  █████████████████████
  median     118.50   26.9%    19.0%     39.9%       7.6%       3.8%     2.8%
The steps cover 91.9% of 0.26 s; the rest: between steps 8.1%.
"""
    )


def test_of_many_steps_the_slowest_are_shown(write_traces: Write, step: Any, show: Show) -> None:
    path = write_traces(*(step(index, 100 * index, wait=index % 30) for index in range(60)))
    overview = show(path).split("\n\n")[0].splitlines()
    assert [line.split()[-8] for line in overview[2:22]] == [
        *map(str, range(20, 30)),
        *map(str, range(50, 60)),
    ]
    assert overview[22:] == [
        "  median      91.50   15.8%    21.9%     45.9%       8.7%       4.4%     3.3%",
        "The 20 slowest of 60 steps; --list shows all.",
        "The steps cover 90.8% of 6.01 s; the rest: between steps 9.2%.",
    ]
    assert len(show(path, "--list").splitlines()) == 1 + 1 + 60 + 1 + 1


def test_one_step_to_a_depth(write_traces: Write, step: Any, show: Show) -> None:
    path = write_traces(step(0), step(7, 100, wait=23))
    assert (
        show(path, "--step", 7, "--depth", 2)
        == """
step 7, 100.00 ms, 1 micro-batch, trace 00000000000000000000000000000002
                                   ms  0                               100.00 ms
train.step                     100.00  █████████████████████████████████████████
├─ dataloader.next              23.00  █████████▌
├─ forward GPT                  20.00           ▐███████▌
│  ├─ forward h.0 … 3 more       8.00            ███
│  └─ forward h.1 … 3 more       8.00               ▐███
├─ backward                     50.00                    ▐████████████████████
│  └─ backward GPT … 9 more     48.00                     ███████████████████▌
└─ optimizer.step AdamW          4.00                                         ▐█
"""
    )


def test_the_slowest_step_without_short_spans(write_traces: Write, step: Any, show: Show) -> None:
    path = write_traces(step(0), step(7, 100, wait=23))
    assert (
        show(path, "--slowest", "--min-ms", 4.5, width=60)
        == """
step 7, 100.00 ms, 1 micro-batch, trace 00000000000000000000000000000002
                                   ms  0           100.00 ms
train.step … 1 more            100.00  █████████████████████
├─ dataloader.next              23.00  █████
├─ forward GPT                  20.00       ████
│  ├─ forward h.0 … 3 more       8.00       █▌
│  └─ forward h.1 … 3 more       8.00         █▌
└─ backward                     50.00           ▐██████████
   └─ backward GPT              48.00           ▐█████████▌
      ├─ backward h.1           25.00            █████
      │  └─ recompute h.1 …      8.00            █▌
      └─ backward h.0 … 3 …      8.00                 ██
"""
    )


def test_of_a_large_step_the_longest_spans_are_shown(
    write_traces: Write, sample: Any, show: Show
) -> None:
    children = tuple(
        sample(f"forward {n}", "forward", n * (n - 1) / 2, n * (n + 1) / 2) for n in range(1, 61)
    )
    forward = sample("forward Deep", "forward", 0, 1830, children)
    path = write_traces(
        sample(
            "train.step",
            "step",
            0,
            1900,
            (forward,),
            {"torch.step": 0, "torch.step.truncated": True},
        )
    )
    lines = show(path, "--slowest").splitlines()
    assert lines[1] == "step 0, 1900.00 ms, truncated, trace " + "0" * 31 + "1"
    assert [line.split()[:3] for line in lines[5:-1]] == [
        ["├─" if n < 60 else "└─", "forward", str(n)] for n in range(19, 61)
    ]
    assert lines[4].split()[:6] == ["└─", "forward", "Deep", "…", "18", "more"]
    assert lines[-1] == "The 44 longest of 62 spans; --min-ms 0 shows all."
    assert len(show(path, "--slowest", "--min-ms", 0).splitlines()) == 1 + 2 + 62


def test_errors_are_told_below_the_tree(write_traces: Write, sample: Any, show: Show) -> None:
    about = ("RuntimeError", "shapes [2] and [3] do not match\nin detail")
    inner = sample("forward c_fc", "forward", 1, 3, exception=about)
    outer = sample("forward GPT", "forward", 0, 4, (inner,))
    path = write_traces(sample("train.step", "step", 0, 8, (outer,), {"torch.step": 0}))
    assert (
        show(path, "--slowest", width=60)
        == """
step 0, 8.00 ms, trace 00000000000000000000000000000001
                            ms  0                    8.00 ms
train.step                8.00  ████████████████████████████
└─ forward GPT            4.00  ██████████████
   └─ forward c_fc ✗      2.00     ▐██████▌
✗ forward c_fc: RuntimeError: shapes [2] and [3] do not match
"""
    )


def test_forward_passes_outside_steps(
    write_traces: Write, sample: Any, step: Any, show: Show
) -> None:
    path = write_traces(
        sample("forward GPT", "forward", 0, 3),
        sample("forward GPT", "forward", 5, 10, (sample("forward h.0", "forward", 6, 8),)),
    )
    assert (
        show(path, width=60)
        == """
2 forward passes outside a step: 8.00 ms in all, 5.00 ms at most.

forward GPT, 5.00 ms, trace 00000000000000000000000000000002
                      ms  0                          5.00 ms
forward GPT         5.00  ██████████████████████████████████
└─ forward h.0      2.00         █████████████▌
"""
    )
    path = write_traces(step(0), sample("forward GPT", "forward", 200, 203))
    assert "\n1 forward pass outside a step: 3.00 ms in all, 3.00 ms at most.\n" in show(path)


def test_evaluations_are_told_from_steps(
    write_traces: Write, sample: Any, step: Any, show: Show
) -> None:
    def evaluation(start: float, forwards: int, *ranks: Any) -> Any:
        about = {"torch.step": 3, "torch.evaluate.forwards": forwards}
        return sample("evaluate", "evaluate", start, start + 40, ranks, about)

    about = {"torch.step": 3, "torch.evaluate.forwards": 5, "torch.distributed.rank": 1}
    rank = sample("rank 1", "rank", 0, 30, (), about)
    path = write_traces(evaluation(0, 1), evaluation(50, 200))
    assert show(path, width=60).splitlines()[1:4] == [
        "2 evaluations of 201 forward passes outside a step: 80.00 ms in all, 40.00 ms at most.",
        "",
        "evaluate, 40.00 ms, 1 forward pass, trace 00000000000000000000000000000001",
    ]
    # Of another rank's evaluation, whose root is in another file; and one with both.
    path = write_traces(rank, evaluation(50, 7, rank._replace(start=50, end=80)), step(4, 100))
    lines = show(path, "--list").splitlines()
    assert lines[2].split()[:3] == ["▸", "4", "79.00"]
    assert lines[3:] == [
        "2 evaluations of 12 forward passes outside a step: 70.00 ms in all, 40.00 ms at most.",
        "The steps cover 44.1% of 0.18 s; the rest: evaluation 39.1%, between steps 16.8%.",
    ]


def test_of_two_runs_the_last_is_shown(write_traces: Write, step: Any, show: Show) -> None:
    path = write_traces(step(0), step(0, 500))
    lines = show(path, "--step", 0).splitlines()
    assert lines[1:3] == [
        "Step 0 is there 2 times; this is the last.",
        "step 0, 79.00 ms, 1 micro-batch, trace 00000000000000000000000000000002",
    ]


def test_what_a_terminal_would_obey_is_shown_as_an_escape(
    write_traces: Write, sample: Any, show: Show
) -> None:
    about = ("[red]Error[/red]", "\u202ebad\nand more")
    names = ("[bold]x[/bold]", "h.0\x1b[2J\x9b", "\ud800\u200b\u2028")
    spans = tuple(sample(name, "forward", 1, 3, exception=about) for name in names)
    path = write_traces(sample("train.step", "step", 0, 8, spans, {"torch.step": 0}))
    lines = show(path, "--slowest").splitlines()
    assert [line[3:28].strip() for line in lines[4:7]] == [
        "[bold]x[/bold] ✗",
        "h.0\\x1b[2J\\x9b ✗",
        "\\ud800\\u200b\\u2028 ✗",
    ]
    assert lines[7:] == [
        f"✗ {name}: [red]Error[/red]: \\u202ebad"
        for name in ("[bold]x[/bold]", "h.0\\x1b[2J\\x9b", "\\ud800\\u200b\\u2028")
    ]


def test_a_torn_file_is_shown_as_far_as_it_goes(write_traces: Write, step: Any, show: Show) -> None:
    path = write_traces(step(0), step(1, 100))
    path.write_text(path.read_text(encoding="utf-8")[:-9], encoding="utf-8")
    assert show(path, "--list").splitlines()[1:] == [
        f"{path}: the last line is cut off and was left out.",
        "    step         ms    data  forward  backward  recompute  optimizer  between",
        "     ▸ 0      79.00    2.5%    25.3%     53.2%      10.1%       5.1%     3.8%",
    ]


def test_colours_are_those_of_the_phases(write_traces: Write, sample: Any) -> None:
    forward = sample("forward A", "forward", 0, 5, (sample("rope", None, 1, 2),))
    path = write_traces(sample("train.step", "step", 0, 10, (forward,), {"torch.step": 0}))
    output = io.StringIO()
    console = Console(
        file=output,
        width=60,
        force_terminal=True,
        color_system="standard",
        highlight=False,
        _environ={},
    )
    View([path], console, Cut()).print_slowest_step()
    assert output.getvalue().splitlines()[3:] == [
        "\x1b[90m└─ \x1b[0m\x1b[36mforward A\x1b[0m"
        "\x1b[36m      5.00\x1b[0m\x1b[36m  ██████████████████\x1b[0m",
        "\x1b[90m   └─ \x1b[0m\x1b[36mrope\x1b[0m  "
        "\x1b[36m      1.00\x1b[0m\x1b[36m     ▐███\x1b[0m",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{path}", "--step", "3"], "{path} has no step 3; it has 2 steps, from 0 to 1"),
        (["{path}.gz"], "{path}.gz cannot be read: No such file or directory"),
    ],
)
def test_what_cannot_be_shown_is_said_in_one_line(
    write_traces: Write,
    step: Any,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    path = write_traces(step(0), step(1, 100))
    assert main(["view", *(argument.format(path=path) for argument in arguments)]) == 2
    assert capsys.readouterr() == ("", f"otel-torch-modules: {message.format(path=path)}\n")


def test_no_steps_at_all(
    write_traces: Write, sample: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_traces(sample("forward GPT", "forward", 0, 3))
    assert main(["view", str(path), "--step", "0"]) == 2
    assert capsys.readouterr().err == (
        f"otel-torch-modules: {path} has no step 0; it has no steps\n"
    )


def run_view(path: Path, environ: dict[str, str], stdout: Any) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-c",
        "import sys; from otel_torch_modules.cli.main import main; sys.exit(main())",
    ]
    return subprocess.Popen(
        [*command, "view", str(path)],
        env={**os.environ, **environ},
        stdout=stdout,
        stderr=subprocess.PIPE,
    )


def test_an_encoding_without_bars_is_no_error(write_traces: Write, step: Any) -> None:
    process = run_view(write_traces(step(0)), {"PYTHONIOENCODING": "ascii"}, subprocess.PIPE)
    output, errors = process.communicate()
    assert (process.returncode, errors) == (0, b"")
    assert b"\n?? dataloader.next" in output


def test_a_reader_that_has_enough_ends_it_quietly(write_traces: Write, step: Any) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        process = run_view(write_traces(step(0)), {}, writing)
    finally:
        os.close(writing)
    _, errors = process.communicate()
    assert (process.returncode, errors) == (1, b"")
