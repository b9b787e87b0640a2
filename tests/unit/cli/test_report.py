"""The command `report`: what it writes where, and what it says when it cannot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from otel_torch_modules.cli.main import main

Write = Callable[..., Path]


def test_it_is_written_and_said(
    write_traces: Write,
    step: Callable[..., Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, out = write_traces(*(step(at, 100 * at) for at in range(5))), tmp_path / "report.html"
    assert main(["report", str(path), "-o", str(out)]) == 0
    said = capsys.readouterr()
    assert (said.err, said.out[: len(str(out)) + 10]) == ("", f"{out}: 5 steps,")
    assert said.out.endswith(" kB. Open it with any browser.\n")
    page = out.read_text(encoding="utf-8")
    assert "train · 5 steps · 1 rank · " in page
    assert f"Written from {path.name} by otel-torch-modules " in page
    assert str(path.parent) not in page  # whoever gets it need not know


def test_no_password_is_in_it(
    write_traces: Write, step: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = write_traces(step(0)), tmp_path / "report.html"

    class Answers:
        said = "jaeger=http://host:16686"

        def __init__(self, *_: object) -> None:
            pass

        def get(self, path_: str, **parameters: str) -> bytes:
            return b'{"result": ' + path.read_bytes() + b"}"

    monkeypatch.setattr("otel_torch_modules._reading.jaeger.Backend", Answers)
    source = "jaeger=http://me:secret@host:16686"
    assert main(["report", source, "--service", "train", "-o", str(out)]) == 0
    page = out.read_text(encoding="utf-8")
    assert "Written from host:16686 by" in page
    assert "secret" not in page


@pytest.mark.parametrize(
    ("samples", "output", "said"),
    [
        (1, ".", ". cannot be written: Is a directory"),
        (1, "no/report.html", "no/report.html cannot be written: No such file or directory"),
        (0, "report.html", "run.jsonl has no whole step"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    samples: int,
    output: str,
    said: str,
    write_traces: Write,
    step: Callable[..., Any],
    sample: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    forward = sample("forward GPT", "forward", 500, 510)
    write_traces(*(step(at) for at in range(samples)), forward)
    assert main(["report", "run.jsonl", "-o", output]) == 2
    assert capsys.readouterr() == ("", f"otel-torch-modules: {said}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["run.jsonl"]
