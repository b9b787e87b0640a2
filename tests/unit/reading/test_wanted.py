"""What is asked for means the same of all sources; what else a file holds is left out, and that is said."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from otel_torch_modules._reading.query import Query
from otel_torch_modules._reading.source_error import SourceError
from otel_torch_modules._reading.traces import Traces
from otel_torch_modules.cli.main import main
from tests.unit.cli.conftest import RESOURCE, START
from tests.unit.reading.test_backends import Server, lines_of, server
from tests.unit.reading.test_formats import ENCODINGS, whole

__all__ = ["server"]

Write = Callable[..., Path]

RUN = "torch.distributed.run_id"
OLD_MS = -2 * 3_600_000


class Filter(NamedTuple):
    """A filter, as a query and on the command line, and the resource or time of a trace that it leaves out."""

    query: Query
    options: Sequence[str]
    other: dict[str, str]
    other_at: float = 0  # ms from now


FILTERS = {
    "service": Filter(Query("train"), ["--service", "train"], {"service.name": "serve"}),
    "run": Filter(Query(run="r2"), ["--run", "r2"], {RUN: "r1"}),
    "since": Filter(Query(since_s=5400), ["--since", "90m"], {}, OLD_MS),
    "all": Filter(
        Query("train", 5400, "r2"),
        ["--service", "train", "--since", "90m", "--run", "r2"],
        {"service.name": "serve", RUN: "r1"},
        OLD_MS,
    ),
}


@pytest.fixture(params=FILTERS)
def chosen(request: pytest.FixtureRequest) -> Filter:
    return FILTERS[request.param]


@pytest.fixture
def write(write_traces: Write, step: Any) -> Callable[[Filter], tuple[Path, Path]]:
    """Return a function that writes a run with two traces that a filter leaves out, and the run without them."""

    def write(chosen: Filter) -> tuple[Path, Path]:
        now = time.time() * 1e3 - START / 1e6 - 60_000
        ours = {**RESOURCE, RUN: "r2"}
        kept, other = (
            [(step(at, now + 100 * at), ours) for at in range(3)],
            {**ours, **chosen.other},
        )
        left_out = [(step(7 + at, now + chosen.other_at + 500 * at), other) for at in range(2)]
        return (
            _written(write_traces, "mixed", [*kept, *left_out]),
            _written(write_traces, "kept", kept),
        )

    return write


def _written(write: Write, name: str, traces: Sequence[tuple[Any, dict[str, Any]]]) -> Path:
    samples, resources = zip(*traces, strict=True)
    return write(*samples, per_line=9, resources=resources, name=name)


@pytest.mark.parametrize("encoding", ["lines", "protobuf", "JSON packed by message"])
def test_of_a_file_the_traces_that_are_asked_for_are_read(
    encoding: str, chosen: Filter, write: Callable[[Filter], tuple[Path, Path]]
) -> None:
    mixed, kept = write(chosen)
    lines = mixed.read_text(encoding="utf-8").splitlines(keepends=True)
    mixed.write_bytes(ENCODINGS[encoding](lines[::-1]))  # the root comes last
    read = Traces.read(mixed, query=chosen.query)
    assert [*map(whole, read.roots)] == [*map(whole, Traces.read(kept).roots)]
    asked = " ".join(chosen.options)
    assert list(read.losses()) == [f"{mixed}: 2 traces are not of {asked} and were left out"]
    assert len(Traces.read(mixed).steps) == 5


def test_a_file_without_what_is_asked_for_is_an_error(
    chosen: Filter, write_traces: Write, step: Any
) -> None:
    traces = [(step(at, 100 * at), {**RESOURCE, "service.name": "serve"}) for at in range(2)]
    path = _written(write_traces, "old", traces)
    with pytest.raises(SourceError) as caught:
        Traces.read(path, query=chosen.query)
    assert str(caught.value) == f"{path} holds 2 traces, none of {' '.join(chosen.options)}"


@pytest.mark.parametrize(
    "command",
    [
        ["view"],
        ["view", "--list"],
        ["why"],
        ["why", "--json"],
        ["report", "-o", "{out}"],
        ["convert", "--to", "chrome", "-o", "{out}"],
        ["stragglers"],
        ["compare", "--split", "1"],
    ],
    ids=" ".join,
)
def test_every_command_reads_what_is_asked_for(
    command: Sequence[str],
    chosen: Filter,
    write: Callable[[Filter], tuple[Path, Path]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mixed, kept = write(chosen)
    told = []
    for path, options in ((mixed, chosen.options), (kept, [])):
        out = tmp_path / "out"
        code = main([*(word.format(out=out) for word in command), str(path), *options])
        pairs = zip(options[::2], options[1::2], strict=True)
        suggested = "".join(f" {option}={value}" for option, value in pairs)
        printed = "".join(capsys.readouterr()).replace(str(path), "SOURCE")
        printed = printed.replace(f"SOURCE{suggested} --step", "SOURCE --step")
        written = out.read_text(encoding="utf-8") if out.exists() else ""
        told.append((code, printed, written.replace(str(path), "SOURCE")))
    (code, printed, written), (code_of_kept, printed_of_kept, written_of_kept) = told
    sentence = f"SOURCE: 2 traces are not of {' '.join(chosen.options)} and were left out"
    assert (printed + written).count(sentence) >= 1
    assert code == code_of_kept
    for line in printed_of_kept.splitlines():
        assert line in printed or "losses" in line
    if "chrome" in command:
        assert json.loads(written) == json.loads(written_of_kept)


def test_phases_and_ranks_of_a_service_are_of_it(write_traces: Write, step: Any) -> None:
    services = "train · rank 1", "train · backward", "train"
    traces = [(step(at, 100 * at), {**RESOURCE, "service.name": services[at]}) for at in range(3)]
    path = _written(write_traces, "parts", traces)
    for service, steps in ((services[0], [0]), (services[1], [1]), (services[2], [0, 1, 2])):
        read = Traces.read(path, query=Query(service))
        assert [one.step for one in read.steps] == steps


def test_what_a_backend_has_chosen_is_not_chosen_again(
    server: Server, write_traces: Write, step: Any
) -> None:
    path = _written(write_traces, "mixed", [(step(0), {**RESOURCE, "service.name": "serve"})])
    found = write_traces(step(1), step(2), name="found")
    result = {"result": json.loads(lines_of(found)[-1])}
    server.answers["/api/v3/traces"] = (200, json.dumps(result).encode())
    source = f"jaeger={server.url}"
    for sources in ((path, source), (source, path)):
        read = Traces.read(*sources, query=Query("train", since_s=60))
        assert read.unwanted == 1
        assert [root.trace_id for root in read.roots] == [f"{2:032}"]
