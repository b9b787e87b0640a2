"""What a command writes never takes the place of what it reads, by whatever name the two go."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from otel_torch_modules.cli.main import main

Write = Callable[..., Path]

WRITERS = {"report": [], "convert": ["--to", "chrome"]}
REFUSED = "{} cannot be written: it is what is read, and would be lost; -o must name another file"


@pytest.fixture
def traces(
    write_traces: Write,
    step: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """Return a run beside which there are a link of each kind to it, and a folder's."""
    monkeypatch.chdir(tmp_path)
    path = write_traces(*(step(at, 100 * at) for at in range(3)))
    write_traces(step(3, 300), name="other.jsonl")
    Path("symlink.jsonl").symlink_to(path)
    Path("chain.jsonl").symlink_to("symlink.jsonl")
    Path("folder").symlink_to(tmp_path)
    os.link(path, "hard.jsonl")
    return path


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


@pytest.mark.parametrize("command", WRITERS)
@pytest.mark.parametrize(
    ("sources", "output"),
    [
        (["run.jsonl"], "run.jsonl"),
        (["run.jsonl"], "./run.jsonl"),
        (["run.jsonl"], "symlink.jsonl"),
        (["run.jsonl"], "chain.jsonl"),
        (["run.jsonl"], "hard.jsonl"),
        (["run.jsonl"], "folder/run.jsonl"),
        (["symlink.jsonl"], "run.jsonl"),
        (["hard.jsonl"], "chain.jsonl"),
        (["folder/run.jsonl"], "run.jsonl"),
        (["other.jsonl", "run.jsonl"], "run.jsonl"),
        (["other.jsonl", "run.jsonl"], "other.jsonl"),
    ],
)
def test_an_output_that_is_a_source_is_refused(
    command: str,
    sources: list[str],
    output: str,
    traces: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = _contents(tmp_path)
    assert main([command, *sources, *WRITERS[command], "-o", output]) == 2
    assert capsys.readouterr() == ("", f"otel-torch-modules: {REFUSED.format(Path(output))}\n")
    assert _contents(tmp_path) == before


@pytest.mark.parametrize("command", WRITERS)
@pytest.mark.parametrize(
    ("source", "output", "redirections"),
    [
        ("-", "run.jsonl", "< run.jsonl"),
        ("-", "symlink.jsonl", "< hard.jsonl"),
        ("/dev/stdin", "run.jsonl", "< run.jsonl"),
        ("run.jsonl", "-", ">> symlink.jsonl"),
        ("-", "-", "< run.jsonl >> run.jsonl"),
        ("run.jsonl", "/dev/stdout", ">> run.jsonl"),
    ],
)
def test_so_is_one_that_a_shell_has_opened(
    command: str, source: str, output: str, redirections: str, traces: Path, tmp_path: Path
) -> None:
    before = _contents(tmp_path)
    program = f"{sys.executable} -m otel_torch_modules {command} {source} -o {output}"
    options = " ".join(WRITERS[command])
    process = subprocess.run(
        f"{program} {options} {redirections}", shell=True, capture_output=True, check=False
    )
    assert (process.returncode, process.stdout) == (2, b"")
    assert process.stderr.decode() == f"otel-torch-modules: {REFUSED.format(output)}\n"
    assert _contents(tmp_path) == before


@pytest.mark.parametrize("command", WRITERS)
@pytest.mark.parametrize(
    ("source", "output", "redirections", "said"),
    [
        ("-", "out", "<&-", "standard input cannot be read: Bad file descriptor"),
        ("run.jsonl", "-", ">&-", "- cannot be written: it is closed"),
    ],
)
def test_a_standard_stream_that_is_closed_is_said_to_be(
    command: str, source: str, output: str, redirections: str, said: str, traces: Path
) -> None:
    program = f"{sys.executable} -m otel_torch_modules {command} {source} -o {output}"
    options = " ".join(WRITERS[command])
    process = subprocess.run(
        f"{program} {options} {redirections}", shell=True, capture_output=True, check=False
    )
    assert process.returncode == 2
    assert process.stderr.decode() == f"otel-torch-modules: {said}\n"


@pytest.mark.parametrize("command", WRITERS)
@pytest.mark.parametrize("output", ["other.jsonl", "new", "/dev/null", "copy.jsonl"])
def test_any_other_is_written(command: str, output: str, traces: Path, tmp_path: Path) -> None:
    Path("copy.jsonl").write_bytes(traces.read_bytes())
    before = _contents(tmp_path)
    assert main([command, "run.jsonl", *WRITERS[command], "-o", output]) == 0
    after = _contents(tmp_path)
    assert {name for name in after if after[name] != before.get(name)} == {output} - {"/dev/null"}
