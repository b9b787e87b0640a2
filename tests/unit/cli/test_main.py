"""The command line's own faults."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from otel_torch_modules.cli import demo
from otel_torch_modules.cli.command_error import CommandError
from otel_torch_modules.cli.main import main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["view"], "the following arguments are required: SOURCE"),
        (["view", "f", "--step", "x"], "argument --step: invalid int value: 'x'"),
        (["view", "f", "--depth", "0"], "argument --depth: '0' is not an integer of at least 1"),
        (
            ["view", "f", "--min-ms", "-1"],
            "argument --min-ms: '-1' is not a number of milliseconds of at least 0",
        ),
        (
            ["view", "f", "--min-ms", "nan"],
            "argument --min-ms: 'nan' is not a number of milliseconds of at least 0",
        ),
        (
            ["view", "f", "--list", "--slowest"],
            "argument --slowest: not allowed with argument --list",
        ),
    ],
)
def test_wrong_arguments_are_named(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"error: {message}")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert (caught.value.code, capsys.readouterr().out) == (
        0,
        metadata.version("otel-torch-modules") + "\n",
    )


@pytest.mark.parametrize("missing", ["rich", "msgspec", "backports", "google.protobuf"])
def test_doctor_answers_where_what_other_commands_need_is_missing(missing: str) -> None:
    script = (
        f"import sys; sys.modules[{missing!r}] = None; from otel_torch_modules.cli.main import main; "
        "sys.exit(main(['doctor']))"
    )
    process = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (process.returncode in (0, 1), process.stderr) == (True, "")
    assert process.stdout.startswith("python ")


@pytest.fixture
def traces(write_traces: Callable[..., Path], step: Callable[..., Any]) -> Path:
    return write_traces(step(0), step(1, 100))


PROGRAM = f"{sys.executable} -c 'import sys; from otel_torch_modules.cli.main import main; sys.exit(main())'"


@pytest.mark.slow
@pytest.mark.parametrize("command", ["view {}", "doctor {}", "view --step 9 {}", "view missing"])
def test_output_that_cannot_be_written(command: str, traces: Path) -> None:
    """A full disk, a stream that is closed: a line and an exit code where they can be had, never a traceback."""

    def run(redirection: str) -> tuple[int, str, str]:
        shell = f"{PROGRAM} {command.format(traces)} {redirection}"
        process = subprocess.run(shell, shell=True, capture_output=True, text=True, check=False)
        return process.returncode, process.stdout, process.stderr

    code, out, err = run("")
    cannot = "otel-torch-modules: the output cannot be written: No space left on device\n"
    assert run("> /dev/full") == ((2, "", cannot) if out else (code, "", err))
    assert run(">&-") == (code, "", err)
    assert run("2>&-") == run("2>/dev/full") == (code, out, "")
    assert run(">&- 2>&-") == (code, "", "")


@pytest.mark.parametrize("columns", ["0", "1", "-3", "wide", "99999999"])
def test_a_terminal_may_say_that_it_is_of_any_width(
    columns: str, traces: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert main(["view", str(traces)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("2 steps  ")
    assert [line.split()[0] for line in lines if line].count("train.step") == 1
    assert max(map(len, lines)) <= 400


def test_the_demo_in_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    with pytest.raises(CommandError) as caught:
        demo.run_demo(1, tmp_path / "taken", {})
    assert str(caught.value) == f"{tmp_path / 'taken'} cannot hold the traces: File exists"


def test_the_demo_whose_training_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "train_gpt.py"
    script.write_text("raise SystemExit(3)", encoding="utf-8")
    monkeypatch.setattr(demo, "_SCRIPT", script)
    assert demo.run_demo(1, tmp_path, {}) == 1
    assert capsys.readouterr().err == "The training failed with exit code 3.\n"


def test_the_demo_whose_training_leaves_no_traces(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = tmp_path / "train_gpt.py"
    script.touch()
    (tmp_path / "demo.jsonl").write_text("of an earlier run", encoding="utf-8")
    monkeypatch.setattr(demo, "_SCRIPT", script)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CommandError) as caught:
        demo.run_demo(1, tmp_path, {})
    assert str(caught.value) == (
        f"the training ran, but {tmp_path}/demo.jsonl was not written; "
        f"`{demo._python()} -m otel_torch_modules doctor` may say why"
    )


@pytest.mark.parametrize(
    "command",
    [["view"], ["why"], ["compare"], ["stragglers"], ["stalls"], ["report", "-o", os.devnull]],
)
def test_standard_input_is_one_source_only(
    command: list[str],
    write_traces: Callable[..., Path],
    step: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = write_traces(*(step(at, 100.0 * at) for at in range(9)))
    with path.open(encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        assert main([*command, "-", "-"]) == 2
    assert capsys.readouterr().err == (
        "otel-torch-modules: standard input has been read already: - can be one source only\n"
    )
