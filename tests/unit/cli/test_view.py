"""What `otel-torch-modules view` prints, whole."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from otel_torch_modules._reading.query import Query
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
3 steps  ███  usually 80.0 ms
    step        ms    data  forward  backward  recompute  optimizer  between
   usual      80.0    3.8%    25.0%     52.5%      10.0%       5.0%     3.8%
The steps cover 87.1% of 0.28 s; the rest: between steps 12.9%.

The usual step: step 2, trace 00000000000000000000000000000003
                                total ms   self ms       %
train.step                         80.00      3.00   100.0  ██████████████████
├─ dataloader.next                  3.00      3.00     3.8  █
├─ forward GPT                     20.00      4.00    25.0  ████
│  ├─ forward h.0                   8.00      0.00    10.0  ██
│  │  ├─ forward ln                 1.00      1.00     1.2
│  │  ├─ forward attn               4.00      4.00     5.0  █
│  │  └─ forward mlp                3.00      3.00     3.8  █
│  └─ forward h.1                   8.00      0.00    10.0  ██
│     ├─ forward ln                 1.00      1.00     1.2
│     ├─ forward attn               4.00      4.00     5.0  █
│     └─ forward mlp                3.00      3.00     3.8  █
├─ backward                        50.00      2.00    62.5  ███████████
│  └─ backward GPT                 48.00     15.00    60.0  ███████████
│     ├─ backward h.1              25.00     17.00    31.2  ██████
│     │  └─ recompute h.1           8.00      0.00    10.0  ██
│     │     ├─ recompute ln         1.00      1.00     1.2
│     │     ├─ recompute attn       4.00      4.00     5.0  █
│     │     └─ recompute mlp        3.00      3.00     3.8  █
│     └─ backward h.0 … 1 more      8.00      0.00    10.0  ██
│        ├─ backward attn           4.00      4.00     5.0  █
│        └─ backward mlp            3.00      3.00     3.8  █
└─ optimizer.step AdamW             4.00      4.00     5.0  █

Backward takes 52 % of a step.
21.0 ms a step, 21 %, lie in no span, most of it between the steps: the loop's
own code (logging, moving data, reading a loss back).
"""
    )


def test_a_compiled_model_is_told_of(
    write_traces: Write, sample: Callable[..., Any], show: Show
) -> None:
    about = {"torch.module.fqn": "GPT", "torch.compiled.modules": 36}

    def compiled(index: int, start: float) -> Any:
        forward = sample("forward GPT", "forward", start, start + 50, (), about)
        rank = {"torch.step": index}
        return sample("train.step", "step", start, start + 100, (forward,), rank)

    path = write_traces(*(compiled(index, 100 * index) for index in range(3)))
    assert (
        show(path)
        == """
3 steps  ███  usually 100 ms
    step        ms  forward  between
   usual       100    50.0%    50.0%

The usual step: step 0, trace 00000000000000000000000000000001
                total ms   self ms       %
train.step        100.00     50.00   100.0  ████████████████████
└─ forward GPT     50.00     50.00    50.0  ██████████
GPT is compiled: one span for 36 modules; compile its blocks one by one to see
them.

What lies between the phases takes 50 % of a step.
50.0 ms a step, 50 %, lie in no span, most of it in the steps: the loop's own
code (logging, moving data, reading a loss back).
"""
    )
    assert (
        show(path, "--step", 1)
        == """
step 1, 100.00 ms, trace 00000000000000000000000000000002
                      ms  0                                            100.00 ms
train.step        100.00  ██████████████████████████████████████████████████████
└─ forward GPT     50.00  ███████████████████████████
GPT is compiled: one span for 36 modules; compile its blocks one by one to see
them.
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


def test_the_usual_and_the_odd_of_many_steps_fit_a_screen(
    write_traces: Write, step: Any, show: Show
) -> None:
    odd = {0: 300, 5: 90, 17: 400, 23: 80, 31: 70, 44: 95, 50: 85, 58: 60}
    path = write_traces(*(step(index, 600 * index, odd.get(index, 2)) for index in range(60)))
    lines = show(path).splitlines()[1:]
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
    assert lines[1].split()[:2] == ["step", "ms"]
    assert [line.split()[0] for line in lines[2:8]] == ["usual", "0", "5", "17", "44", "50"]
    assert lines[3].split()[2:] == ["warm-up"]
    assert lines[5].split()[1:] == ["477", "+398", "ms", "dataloader.next"]
    assert lines[-3].startswith("Backward takes ")
    assert len(show(path, "--list").splitlines()) == 1 + 1 + 60 + 1 + 1


def test_equal_siblings_are_one_row_unless_unfolded(
    write_traces: Write, sample: Any, show: Show
) -> None:
    blocks = tuple(
        sample(
            f"forward h.{block}",
            "forward",
            10 * block,
            10 * block + 8,
            (
                sample(
                    "forward mlp",
                    "forward",
                    10 * block,
                    10 * block + 5,
                    (),
                    _of(f"GPT.h.{block}.mlp", "MLP"),
                ),
            ),
            _of(f"GPT.h.{block}", "Block"),
        )
        for block in range(3)
    )
    forward = sample("forward GPT", "forward", 0, 30, blocks, _of("GPT", "GPT"))
    path = write_traces(sample("train.step", "step", 0, 40, (forward,), {"torch.step": 0}))
    shown = show(path)
    tree = shown[shown.index("train.step") :].split("\n\n")[0]
    assert [line.strip().split("  ")[0] for line in tree.splitlines()] == [
        "train.step",
        "└─ forward GPT",
        "└─ forward h.0…2 ×3",
        "└─ forward mlp ×3",
    ]
    assert tree.splitlines()[2].split()[-5:-1] == ["×3", "24.00", "9.00", "60.0"]
    unfolded = show(path, "--unfold")
    assert unfolded.count("forward h.") == unfolded.count("forward mlp") == 3


def _of(fqn: str, module_class: str) -> dict[str, str]:
    return {"torch.module.fqn": fqn, "torch.module.class": module_class}


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
step 7, 100.00 ms, 1 micro-batch, trace
00000000000000000000000000000002
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
    assert lines.pop(1).startswith(f"{path}: 1 step is truncated: it had more spans than ")
    assert lines[1] == "step 0, 1900.00 ms, truncated, trace " + "0" * 31 + "1"
    assert [line.split()[:3] for line in lines[5:-1]] == [
        ["├─" if n < 60 else "└─", "forward", str(n)] for n in range(19, 61)
    ]
    assert lines[4].split()[:6] == ["└─", "forward", "Deep", "…", "18", "more"]
    assert lines[-1] == "The 44 longest of 62 spans; --min-ms 0 shows all."
    assert len(show(path, "--slowest", "--min-ms", 0).splitlines()) == 1 + 1 + 2 + 62


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
✗ forward c_fc: RuntimeError: shapes [2] and [3] do not
match
"""
    )


def test_a_step_that_an_exception_ended_is_marked_in_the_overview_and_in_the_list(
    write_traces: Write, step: Any, show: Show
) -> None:
    failed = step(7, 700)._replace(exception=("RuntimeError", "out of [bold]memory\nin detail"))
    path = write_traces(*(step(at, 100 * at) for at in range(7)), failed)
    overview = show(path).splitlines()
    assert [line for line in overview if "✗" in line] == [
        "       7      79.0  ✗ RuntimeError: out of [bold]memory"
    ]
    assert [line.split()[:2] for line in show(path, "--list").splitlines() if "✗" in line] == [
        ["✗", "7"]
    ]


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
2 forward passes outside a step: 8.00 ms in all, 5.00 ms at
most.

forward GPT, 5.00 ms, trace 00000000000000000000000000000002
                total ms   self ms       %
forward GPT         5.00      3.00   100.0  ██████████████
└─ forward h.0      2.00      2.00    40.0  ██████
"""
    )
    path = write_traces(step(0), sample("forward GPT", "forward", 200, 203))
    assert "\n1 forward pass outside a step: 3.00 ms in all, 3.00 ms at most.\n" in show(path)


@pytest.mark.parametrize("phases", [["evaluate"], ["forward"], ["step"], ["step", "evaluate"]])
def test_where_no_step_is_whole_the_slowest_is_folded_and_fits_a_screen(
    phases: list[str], write_traces: Write, sample: Any, show: Show
) -> None:
    def block(kind: str, number: int, start: int) -> Any:
        fqn = f"{kind}.h.{number}"
        mlp = sample("forward mlp", "forward", start, start + 5, (), _of(f"{fqn}.mlp", "MLP"))
        failure = ("ValueError", "bad") if number == 3 else None
        name = f"forward {kind}{number}"
        return sample(name, "forward", start, start + 9, (mlp,), _of(fqn, "Block"), failure)

    def passes(start: int) -> Any:
        kinds = enumerate("ABCDEFGHIJKLMNO")
        return tuple(
            block(kind, number, start + 40 * which + 10 * number)
            for which, kind in kinds
            for number in range(4)
        )

    about = {"evaluate": {"torch.evaluate.forwards": 200}, "step": {"torch.step": 7}}
    path = write_traces(
        *(
            sample(phase, phase, start, start + 900, passes(start), about.get(phase))
            for start in range(0, 8000, 1000)
            for phase in phases
        )
    )
    requests = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for request in requests if "step" in phases else ():  # of each trace a span is lost
        request["resourceSpans"][0]["scopeSpans"][0]["spans"][-1]["endTimeUnixNano"] = "lost"
    path.write_text("\n".join(map(json.dumps, requests)) + "\n", encoding="utf-8")
    lines = [line for line in show(path).splitlines()[1:] if str(path) not in line]
    assert sum(-(-len(line) // 80) for line in lines) <= 40
    assert any("forward A0…3 ×4" in line for line in lines)
    assert any("forward mlp ×4" in line for line in lines)
    assert "✗ forward A3: ValueError: bad" in lines
    assert len(show(path, "--min-ms", 0).splitlines()) > 100  # as much as is asked for


def test_evaluations_are_told_from_steps(
    write_traces: Write, sample: Any, step: Any, show: Show
) -> None:
    def evaluation(start: float, forwards: int, *ranks: Any) -> Any:
        about = {"torch.step": 3, "torch.evaluate.forwards": forwards}
        return sample("evaluate", "evaluate", start, start + 40, ranks, about)

    about = {"torch.step": 3, "torch.evaluate.forwards": 5, "torch.distributed.rank": 1}
    rank = sample("rank 1", "rank", 0, 30, (), about)
    path = write_traces(evaluation(0, 1), evaluation(50, 200))
    assert show(path, width=100).splitlines()[1:4] == [
        "2 evaluations of 201 forward passes outside a step: 80.00 ms in all, 40.00 ms at most.",
        "",
        "evaluate, 40.00 ms, 1 forward pass, trace 00000000000000000000000000000001",
    ]
    # Of another rank's evaluation, whose root is in another file; and one with both.
    path = write_traces(rank, evaluation(50, 7, rank._replace(start=50, end=80)), step(4, 100))
    lines = show(path, "--list", width=90).splitlines()
    assert lines[2].split()[:3] == ["▸", "4", "79.00"]
    assert lines[3:] == [
        "2 evaluations of 12 forward passes outside a step: 70.00 ms in all, 40.00 ms at most.",
        "The steps cover 44.1% of 0.18 s; the rest: evaluation 39.1%, between steps 16.8%.",
    ]


def test_of_two_runs_the_last_is_shown(write_traces: Write, step: Any, show: Show) -> None:
    path = write_traces(step(0), step(0, 500))
    lines = show(path, "--step", 0).splitlines()
    assert lines[1].startswith(f"{path} holds 1 number of a step more than once, 0: a job was ")
    assert lines[2:4] == [
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
    View([str(path)], Query(), console, Cut()).print_slowest_step()
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


@pytest.mark.slow
def test_an_encoding_without_bars_is_no_error(write_traces: Write, step: Any) -> None:
    process = run_view(write_traces(step(0)), {"PYTHONIOENCODING": "ascii"}, subprocess.PIPE)
    output, errors = process.communicate()
    assert (process.returncode, errors) == (0, b"")
    assert b"\n?? dataloader.next" in output


@pytest.mark.slow
def test_a_reader_that_has_enough_ends_it_quietly(write_traces: Write, step: Any) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        process = run_view(write_traces(step(0)), {}, writing)
    finally:
        os.close(writing)
    _, errors = process.communicate()
    assert (process.returncode, errors) == (1, b"")


@pytest.mark.parametrize(
    ("behind", "remark"), [(30.0, ""), (0.2, "; it waits for the program")], ids=["ahead", "late"]
)
def test_a_step_says_what_the_device_took(
    behind: float,
    remark: str,
    sample: type[Any],
    write_traces: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    def of_device(took: float) -> dict[str, float]:
        return {"torch.device.duration": took / 1e3, "torch.device.lag": behind / 1e3}

    below = (
        sample("dataloader.next", "data", 0, 1),
        sample("forward GPT", "forward", 1, 2, (), of_device(10)),
        sample("backward", "backward", 2, 4, (), of_device(20)),
    )
    step = sample("train.step", "step", 0, 4, below, {"torch.step": 0, **of_device(31)})
    assert main(["view", "--step", "0", str(write_traces(step))]) == 0
    _, heading, *rows = capsys.readouterr().out.splitlines()
    rows, said = rows[:4], rows[4:]
    assert heading.split()[:3] == ["ms", "device", "ms"]
    cells = [row.split() for row in rows]
    assert cells[0][:3] == ["train.step", "4.00", "31.00"]
    assert [row[-2:] for row in (cell[:-1] for cell in cells[2:])] == [
        ["1.00", "10.00"],
        ["2.00", "20.00"],
    ]
    assert cells[1][2] == "1.00"
    assert not cells[1][3][0].isdigit()
    assert (
        " ".join(said)
        == f"The device took 31.00 ms, and was {behind:.2f} ms behind where backward ended{remark}."
    )


@pytest.mark.parametrize("cut", [("--depth", 1), ("--min-ms", 15)])
def test_where_no_other_is_named_the_usual_step_is_cut(
    cut: tuple[str, int], write_traces: Write, step: Any, show: Show
) -> None:
    path = write_traces(*(step(at, 100.0 * at) for at in range(9)))
    assert show(path, *cut) == show(path, "--unfold", *cut)
    assert "forward h.0" not in show(path, *cut)


@pytest.mark.parametrize("cut", [("--depth", "1"), ("--min-ms", "0")])
def test_a_table_is_not_cut(
    cut: tuple[str, str], write_traces: Write, step: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["view", str(write_traces(step(0))), "--list", *cut]) == 2
    assert capsys.readouterr().err == (
        "otel-torch-modules: --depth and --min-ms cut a tree: not with --list\n"
    )
