"""A command that is suggested does what it says once a shell has read it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from otel_torch_modules.cli.main import main
from otel_torch_modules.cli.typed import typed, typed_all
from tests.unit.cli.conftest import START

NAMES = [
    *(
        "run.jsonl",
        "a run.jsonl",
        "-x.jsonl",
        "--",
        "--step",
        "it's",
        '"$HOME"',
        "日本 x",
        "*",
        "a\\b",
    ),
    *("two\nlines", "\x1b[2J'\\", os.fsdecode(b"q_\xff\xfe.jsonl"), "\u200bzero\u202e", "\x01f"),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_shell_makes_of_it_what_it_was(name: str) -> None:
    printed = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {typed_all([name, 'next'])}"],
        capture_output=True,
        check=True,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    first, following, _ = printed.stdout.split(b"\0")
    assert first.removeprefix(b"./") == os.fsencode(name)
    assert following == b"next"
    assert not first.startswith(b"-")
    assert typed(name).isprintable()


def test_standard_input_stays_what_it_is() -> None:
    assert typed("-") == "-"


@pytest.mark.parametrize("name", ["-x.jsonl", os.fsdecode(b"q_\xff.jsonl")])
def test_it_is_what_why_prints(
    name: str,
    write_traces: Callable[..., Path],
    step: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_traces(*(step(at, 100.0 * at) for at in range(5)), name=name)
    monkeypatch.chdir(tmp_path)
    assert main(["why", "--", name]) == 0
    said = capsys.readouterr().out
    assert f"Look at one: otel-torch-modules view {typed(name)} --step " in said


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        (["--service", "train"], "--service=train"),
        (["--service=-x y", "--since=40d"], "--service='-x y' --since=40d"),
        (["--run", "it's"], """--run='it'"'"'s'"""),
    ],
)
def test_it_asks_for_the_same_traces(
    asked: list[str],
    shown: str,
    write_traces: Callable[..., Path],
    step: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    since = (time.time_ns() - START) / 1e6 - 60_000
    about = {
        "service.name": "-x y" if "x y" in shown else "train",
        "torch.distributed.run_id": "it's",
    }
    path = write_traces(*(step(at, since + 100.0 * at) for at in range(5)), resources=[about] * 5)
    assert main(["why", *asked, str(path)]) == 0
    said = capsys.readouterr().out
    assert f"Look at one: otel-torch-modules view {path} {shown} --step " in said
