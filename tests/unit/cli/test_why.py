"""What `why` and `compare` print, whole, and how they exit."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from otel_torch_modules.cli.main import main

Write = Callable[..., Path]


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Return a function that runs a command and returns its exit code and what it printed."""

    def command(*arguments: object, width: int = 100) -> tuple[int, str]:
        monkeypatch.setenv("COLUMNS", str(width))
        code = main([*map(str, arguments)])
        captured = capsys.readouterr()
        return code, "\n" + captured.out + captured.err

    return command


@pytest.fixture
def traces(write_traces: Write, step: Any) -> Path:
    """The file of a run of 12 steps; the first is warm-up, one waits for data."""
    return write_traces(*(step(at, 200 * at, wait={0: 60, 7: 90}.get(at, 2)) for at in range(12)))


def test_why(traces: Path, run: Callable[..., tuple[int, str]]) -> None:
    code, printed = run("why", traces)
    assert code == 0
    lines = printed.splitlines()[1:]
    assert lines[:5] == [
        "12 steps · 1 rank · CPU · 79.0 ms a step (p90 79.0, p99 158), 5.29 steps/s",
        "",
        "Backward takes 53 % of a step.",
        "",
        "   60 %  between    124 ms a step, 62 %, lie in no span, most of it between the steps: the loop's",
    ]
    assert lines[-2:] == [
        f"Look at one: otel-torch-modules view {traces} --step 7",
        "Jaeger: tag torch.step=7",
    ]
    assert len(lines) <= 40
    assert max(map(len, lines[:-2])) <= 100


def test_why_as_json(traces: Path, run: Callable[..., tuple[int, str]]) -> None:
    code, printed = run("why", "--json", traces)
    found = json.loads(printed)
    assert (code, found["steps"], found["usual_ms"]) == (0, 12, 79.0)
    (slow,) = (finding for finding in found["findings"] if finding["rule"] == "slow-step")
    assert (slow["steps"], slow["place"], slow["phase"]) == ([7], "dataloader.next", "data")
    assert slow["cost_ms"] == pytest.approx(88 / 12, abs=1e-3)


@pytest.mark.parametrize(
    ("rules", "code"), [(["gc"], 0), (["slow-step"], 1), (["gc", "slow-step"], 1)]
)
def test_it_fails_on_the_rules_that_it_is_told(
    rules: list[str], code: int, traces: Path, run: Callable[..., tuple[int, str]]
) -> None:
    options = [word for rule in rules for word in ("--fail-on", rule)]
    assert run("why", *options, traces)[0] == code


def test_a_rule_that_is_none_is_named(traces: Path, run: Callable[..., tuple[int, str]]) -> None:
    code, printed = run("why", "--fail-on", "slow", traces)
    assert code == 2
    assert printed.startswith(
        "\notel-torch-modules: --fail-on slow: there is no such rule; there are data, straggler, slow-step,"
    )


def test_one_step_against_its_neighbours(traces: Path, run: Callable[..., tuple[int, str]]) -> None:
    assert run("why", "--step", 7, traces, width=80) == (
        0,
        """
Step 7 took 167 ms, 2.11 × the usual 79.0: +88.0 ms dataloader.next (usually
2.00).

  own time by place                                           ms   usual    more
  dataloader.next                                           90.0    2.00   +88.0
""",
    )
    code, printed = run("why", "--step", 99, traces)
    assert (code, printed) == (
        2,
        "\notel-torch-modules: there is no whole step 99; there are 12, from 0 to 11\n",
    )


def test_of_a_number_that_two_steps_have_the_last_is_shown_and_that_is_said(
    write_traces: Write, step: Any, run: Callable[..., tuple[int, str]]
) -> None:
    first = [step(at, 200 * at, wait=90 if at == 7 else 2) for at in range(12)]
    again = [step(at, 9_000 + 200 * at) for at in range(5, 16)]
    path = write_traces(*first, *again)
    code, printed = run("why", path)
    assert code == 0
    assert printed.startswith(
        f"\n{path} holds 7 numbers of steps more than once, 5, 6, 7 …: a job was started again, or they are of "
        "several; --step takes the last of a number.\n"
    )
    assert "Step 7 (the 1st of 2) took 167 ms" in printed
    shown = int(printed.rpartition("torch.step=")[2])
    assert shown not in range(5, 12)
    code, printed = run("why", "--step", 7, path)
    assert printed.splitlines()[2:4] == [
        "Step 7 is there 2 times; this is the last.",
        "Step 7 took 79.0 ms, 1.00 × the usual 79.0: it is as its neighbours.",
    ]


@pytest.mark.parametrize(
    "command",
    [("why",), ("compare", "--split", 1), ("report", "-o", "/dev/null")],
    ids=lambda command: command[0],
)
def test_a_run_without_a_whole_step_is_one_error_with_what_was_lost(
    command: tuple[Any, ...],
    write_traces: Write,
    sample: Any,
    step: Any,
    run: Callable[..., tuple[int, str]],
) -> None:
    cut_off = write_traces(sample("forward GPT", "forward", 0, 10), step(1))
    cut_off.write_text(cut_off.read_text()[:-20])
    assert run(*command, cut_off) == (
        2,
        f"\notel-torch-modules: {cut_off} has no whole step; {cut_off}: "
        "the last line is cut off and was left out\n",
    )


def test_compare_one_run_with_itself_and_with_a_slower_one(
    write_traces: Write, step: Any, tmp_path: Path, run: Callable[..., tuple[int, str]]
) -> None:
    a, b = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    write_traces(*(step(at, 200 * at, wait=2 + at % 3) for at in range(60))).rename(a)
    write_traces(*(step(at, 200 * at, wait=12 + at % 3) for at in range(60))).rename(b)
    code, printed = run("compare", a, a)
    assert (
        code,
        printed.startswith("\nNo difference that 60 steps can show: 80.0 and 80.0 ms"),
    ) == (0, True)
    code, printed = run("compare", "--json", "--fail-above", "5%", a, b)
    found = json.loads(printed)
    assert code == 1
    assert found["step"]["relative"] == pytest.approx(10 / 80, abs=0.01)
    assert 0.05 < found["step"]["low"] <= found["step"]["relative"] <= found["step"]["high"]
    (change,) = found["changes"]
    assert (change["place"], change["class"]) == ("dataloader.next", None)
    assert change["share"] == pytest.approx(1, abs=0.05)
    assert (found["new"], found["gone"]) == ([], [])
    assert run("compare", "--fail-above", "20%", a, b)[0] == 0
    assert run("compare", "--fail-above", "0%", b, a)[0] == 0
    assert "in dataloader.next." in " ".join(run("compare", a, b)[1].split())


def test_compare_two_parts_of_a_run(
    write_traces: Write, step: Any, run: Callable[..., tuple[int, str]]
) -> None:
    path = write_traces(
        *(step(at, 200 * at, wait=(2 if at < 40 else 22) + at % 3) for at in range(80))
    )
    code, printed = run("compare", "--split", 40, path)
    assert code == 0
    assert printed.startswith("\nB is 25.0 % slower per step")
    code, printed = run("compare", "--split", 400, path)
    assert (code, "leaves nothing to compare" in printed) == (2, True)


@pytest.mark.parametrize(
    "arguments", [["one"], ["one", "two", "three"], ["--split", "3", "one", "two"]]
)
def test_compare_takes_two(arguments: list[str], run: Callable[..., tuple[int, str]]) -> None:
    assert run("compare", *arguments) == (
        2,
        "\notel-torch-modules: compare takes two sources, or one and --split STEP\n",
    )


@pytest.mark.parametrize("share", ["x", "-1%", "nan"])
def test_a_share_that_is_none_is_named(share: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["compare", "a", "b", f"--fail-above={share}"])
    assert f"{share!r} is not a percentage of at least 0, as 5%" in capsys.readouterr().err


def test_what_findings_say_begins_in_one_column(
    write_traces: Write, step: Any, sample: Any, run: Callable[..., tuple[int, str]]
) -> None:
    steps = [step(at, 400 * at) for at in range(12)]
    pauses = [sample("evaluate", "evaluate", 400 * at + 180, 400 * at + 380) for at in range(12)]
    printed = run("why", write_traces(*steps, *pauses))[1]
    first = re.findall(r"(?m)^ *[\d.]+ %  ([a-z-]+ +)", printed)
    assert {"evaluation  ", "recompute   "} <= set(first)


def test_the_table_has_a_heading_of_whole_words_at_every_width(
    traces: Path, run: Callable[..., tuple[int, str]]
) -> None:
    for width in range(40, 101):
        printed = run("why", traces, width=width)[1]
        (heading,) = re.findall(r"(?m)^ +(own time.*?)  .*\bsum .*$", printed)
        assert heading in ("own time by place, usual step", "own time by place", "own time"), width
