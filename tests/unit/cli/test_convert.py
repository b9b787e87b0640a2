"""The command `convert`: what it writes where, and what it says when it cannot."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from otel_torch_modules.cli.convert import FORMATS
from otel_torch_modules.cli.main import main

Write = Callable[..., Path]


@pytest.fixture
def traces(write_traces: Write, step: Callable[..., Any], sample: Any) -> Path:
    evaluation = sample("evaluate", "evaluate", 300, 310, (), {"torch.evaluate.forwards": 3})
    return write_traces(step(0), step(1, 100), evaluation)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
def test_each_format_is_written_and_said(
    form: str, traces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.write_text("of an earlier run")
    assert main(["convert", str(traces), "--to", form, "-o", str(out)]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.startswith(f"{out}: 2 steps, 47 spans, ")
    assert said.out.endswith(f" Open it with {FORMATS[form].reader}.\n")
    assert len(said.out) - len(str(out)) <= 100
    content = out.read_bytes()
    assert b"forward attn" in content or b"train.step" in content
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "run.jsonl"]


def test_a_program_that_is_around_its_steps_and_a_stall(
    write_traces: Write, step: Callable[..., Any], sample: Any, tmp_path: Path
) -> None:
    epoch = sample("epoch", None, 0, 200, (step(0), step(1, 100)))
    stall = sample("train.stall", "stall", 300, 400, (), {"torch.stall.reason": "killed"})
    path, out = write_traces(epoch, stall), tmp_path / "out"
    names = {}
    for form in ("chrome", "speedscope"):
        assert main(["convert", str(path), "--to", form, "-o", str(out)]) == 0
        names[form] = out.read_text()
    assert "epoch" in names["chrome"]
    assert "epoch" not in names["speedscope"]
    assert not any("train.stall" in text for text in names.values())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["run.jsonl", "--to", "xml", "-o", "out"],
            "--to xml: there is no such format; there are perfetto, chrome, speedscope, collapsed, parquet",
        ),
        (["run.jsonl", "--to", "chrome", "-o", "."], ". cannot be written: Is a directory"),
        (
            ["run.jsonl", "--to", "chrome", "-o", "no/out"],
            "no/out cannot be written: No such file or directory",
        ),
        (
            ["run.jsonl", "--to", "chrome", "-o", "/dev/full"],
            "/dev/full cannot be written: No space left on device",
        ),
        (
            ["empty.jsonl", "--to", "chrome", "-o", "out"],
            "empty.jsonl is empty: no trace has been written to it yet",
        ),
        (
            ["missing", "--to", "chrome", "-o", "out"],
            "missing cannot be read: No such file or directory",
        ),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    arguments: list[str],
    said: str,
    traces: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.jsonl").touch()
    assert main(["convert", *arguments]) == 2
    assert capsys.readouterr() == ("", f"otel-torch-modules: {said}\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.jsonl", "run.jsonl"]


def test_what_was_there_stays_where_writing_fails_in_its_middle(
    traces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(roots: Any, out: Any) -> None:
        out.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(FORMATS, "chrome", FORMATS["chrome"]._replace(write=fail))
    out = tmp_path / "out"
    out.write_text("of an earlier run")
    assert main(["convert", str(traces), "--to", "chrome", "-o", str(out)]) == 2
    assert out.read_text() == "of an earlier run"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "run.jsonl"]


def test_a_pipe_can_be_written_to_and_read_from(traces: Path) -> None:
    program = f"{sys.executable} -m otel_torch_modules convert - --to chrome -o -"
    process = subprocess.run(
        program, shell=True, input=traces.read_bytes(), capture_output=True, check=False
    )
    assert process.returncode == 0
    assert len(json.loads(process.stdout)["traceEvents"]) > 47
    assert process.stderr.startswith(b"-: 2 steps, 47 spans. Open it with ")


def test_parquet_without_pyarrow_says_what_to_install(
    traces: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "otel_torch_modules._pictures.parquet", None)
    assert main(["convert", str(traces), "--to", "parquet", "-o", str(tmp_path / "out")]) == 2
    said = "--to parquet needs pyarrow: pip install 'otel-torch-modules[parquet]'"
    assert capsys.readouterr().err == f"otel-torch-modules: {said}\n"
