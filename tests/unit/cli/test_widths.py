"""Every answer on a terminal of any width: nothing is raised, and from 40 cells on no line is wider than it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from otel_torch_modules.cli.cells import head, padded, tail, wrapped
from otel_torch_modules.cli.main import main

Write = Callable[..., Path]

LEAST = 40  # cells that are taken for granted
# What is copied, or read by programs, stays in one line.
AS_IT_IS = ("Look at one: ", "Jaeger: tag ")
COMMANDS = (
    ["why", "{run}"],
    ["why", "{run}", "--step", "7"],
    ["view", "{run}"],
    ["view", "{run}", "--list"],
    ["view", "{run}", "--step", "7"],
    ["view", "{run}", "--unfold"],
    ["compare", "{run}", "--split", "6"],
    ["compare", "{run}", "{slower}"],
)
NAMES = {
    "short": "mlp",
    "long": "a_module_whose_name_is_as_long_as_no_terminal_is_wide." * 4,
    "wide": "名前のとても長いモジュール" * 5,
    "accented": "e\u0301" * 60,
}


@pytest.fixture(params=NAMES)
def run(
    request: pytest.FixtureRequest, write_traces: Write, step: Any, sample: Any
) -> dict[str, str]:
    """Return files of a run of two ranks with devices, whose names are of some kind, and of a slower one."""
    name = NAMES[request.param]

    def steps(wait: float) -> Iterator[Any]:
        for at in range(12):
            yield _of_ranks(step, sample, at, wait + {0: 60, 7: 90}.get(at, 0), name)

    return {
        "run": str(write_traces(*steps(2), name="run.jsonl")),
        "slower": str(write_traces(*steps(20), name="slower.jsonl")),
    }


def _of_ranks(step: Any, sample: Any, at: int, wait: float, name: str) -> Any:
    ranks = []
    for rank in range(2):
        one = step(at, 300 * at, wait=wait)
        children = tuple(_with_device(_named(child, name)) for child in one.children)
        about = {"torch.distributed.rank": rank, **one.attributes}
        ranks.append(sample(f"rank {rank}", "rank", one.start, one.end, children, about))
    return one._replace(children=tuple(ranks))


def _named(span: Any, name: str) -> Any:
    """Return a span of a module, and those below it, by names of their own."""
    children = tuple(_named(child, name) for child in span.children)
    if span.phase not in ("forward", "backward", "recompute") or span.name == "backward":
        return span._replace(children=children)
    label = span.name.partition(" ")[2]
    about = {"torch.module.fqn": f"GPT.{label}.{name}", "torch.module.class": "Linear"}
    exception = ("ValueError", "bad " * 40) if label == "mlp" else None
    return span._replace(
        name=f"{span.name} {name}", children=children, attributes=about, exception=exception
    )


def _with_device(span: Any) -> Any:
    if span.phase not in ("forward", "backward", "optimizer"):
        return span
    took = {"torch.device.duration": (span.end - span.start) / 2e3, "torch.device.lag": 1e-3}
    return span._replace(attributes={**(span.attributes or {}), **took})


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_at_every_width_there_is_an_answer_that_fits(
    command: list[str],
    run: dict[str, str],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    is_hardest = "wide" in request.node.callspec.params.values()
    for width in range(1, 201, 1 if is_hardest else 9):
        monkeypatch.setenv("COLUMNS", str(width))
        assert main([argument.format(**run) for argument in command]) == 0
        answer = capsys.readouterr()
        assert answer.err == ""
        too_wide = [
            line
            for line in answer.out.splitlines()
            if cell_len(line) > max(width, LEAST) and not line.startswith(AS_IT_IS)
        ]
        assert (width, too_wide) == (width, [])


@pytest.mark.parametrize("command", ["stragglers", "stalls", "doctor"])
def test_what_is_not_cut_is_said_at_every_width(
    command: str,
    write_traces: Write,
    step: Any,
    sample: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stall = sample("train.stall", "stall", 9000, 9900, (), {"torch.stall.reason": "no_progress"})
    path = write_traces(*(_of_ranks(step, sample, at, 2, "mlp") for at in range(3)), stall)
    for width in range(1, 201):
        monkeypatch.setenv("COLUMNS", str(width))
        assert main([command, str(path)]) == 0
        assert capsys.readouterr().err == ""


texts = st.text(st.sampled_from("ab 名e\u0301-/·"), max_size=60)


@given(texts, st.integers(1, 30))
def test_a_paragraph_has_all_words_and_no_line_that_is_too_wide(text: str, width: int) -> None:
    lines = list(wrapped(text, width))
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert all(cell_len(line) <= max(width, 2) for line in lines)  # a wide letter is two


@given(texts, st.integers(2, 30))
def test_what_is_cut_has_its_cells(text: str, cells: int) -> None:
    for cut in (head(text, cells), tail(text, cells)):
        assert cell_len(cut) <= cells
        assert cut == text or "…" in cut
        assert cell_len(padded(cut, cells)) == cells
