"""What comes in is not believed: nothing makes a command fail without a word, or reaches a terminal as it is."""

from __future__ import annotations

import ast
import contextlib
import functools
import gzip
import io
import json
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_torch_modules._misspelt import OURS, STANDARD
from otel_torch_modules.cli.command_line import parser
from otel_torch_modules.cli.main import main
from tests.support.examples import examples
from tests.support.package_source import PACKAGE, trees_in

# What Python's own JSON cannot write: put in as text.
NESTED, HUGE, INFINITE = "@nested@", "@huge@", "@infinite@"
AS_TEXT = {
    f'"{NESTED}"': "[" * 1000 + "]" * 1000,
    f'"{HUGE}"': "9" * 5000,
    f'"{INFINITE}"': "1e999",
}

COMMANDS = (
    ["view", "{file}"],
    ["view", "--list", "{file}"],
    ["view", "--slowest", "--min-ms", "0", "{file}"],
    ["view", "--step", "1", "--depth", "2", "{file}"],
    ["stragglers", "{file}"],
    ["report", "{file}", "-o", "{file}.out"],
    ["convert", "{file}", "--to", "perfetto", "-o", "{file}.out"],
    ["convert", "{file}", "--to", "speedscope", "-o", "{file}.out"],
    ["convert", "{file}", "--to", "parquet", "-o", "{file}.out"],
    ["doctor", "{file}"],
    ["stalls", "{file}"],
)

STYLE = re.compile(r"\x1b\[[0-9;]*m")  # the only sequence that we write

EVIL = (
    "\x1b[2J\x1b]0;title\x07",
    "\x1b]8;;http://evil/\x1b\\link\x1b]8;;\x1b\\",
    "\x9b31m",
    "\x00\x08\x7f\r",
    "forged\nline\x85\u2028\u2029",
    "\u202eright\u202d\u2066to\u2069left\u200f\u200e\u061c",
    "\u200bzero\ufeff\u2060\u00ad",
    "\ud800\udfff\udc9b",
    "[red]markup[/red][link=http://evil/]link[/link]",
    "\U000e0041tag",
)
evil_texts = st.lists(
    st.sampled_from(EVIL) | st.text(st.characters(), max_size=4), min_size=1, max_size=4
).map("".join)

strange = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 1 << 70)
    | st.floats()
    | evil_texts
    | st.sampled_from(
        (NESTED, HUGE, INFINITE, "", "0" * 16, "9" * 4300, "1.0", "2e3", "step", "rank", "٣")
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(("key", "value", "stringValue", "intValue", "arrayValue", "x")), inner
        )
    ),
    max_leaves=6,
)


def _span(number: int, parent: int, name: str, phase: str | None, *, trace: int) -> dict[str, Any]:
    attributes = {"torch.phase": phase, "torch.module.fqn": f"GPT.{name}"}
    pairs = [{"key": k, "value": {"stringValue": v}} for k, v in attributes.items() if v]
    numbers = {"torch.step": trace, "torch.step.micro_batches": 2, "torch.step.dropped": 1}
    if phase == "rank":
        numbers["torch.distributed.rank"] = number
    pairs += [{"key": key, "value": {"intValue": str(value)}} for key, value in numbers.items()]
    about = [
        {"key": "exception.type", "value": {"stringValue": "ValueError"}},
        {"key": "exception.message", "value": {"stringValue": "bad\nvalue"}},
    ]
    return {
        "traceId": f"{trace:032x}",
        "spanId": f"{number:016x}",
        "parentSpanId": f"{parent:016x}" if parent else "",
        "name": name,
        "kind": 1,
        "startTimeUnixNano": str(10**18 + trace * 10**7 + number),
        "endTimeUnixNano": str(10**18 + trace * 10**7 + 10**6 - number),
        "attributes": pairs,
        "events": [{"name": "exception", "attributes": about}],
        "links": [{"traceId": f"{trace:032x}", "spanId": f"{max(number - 1, 1):016x}"}],
        "status": {"code": 2},
    }


def _stalled(span: dict[str, Any], place: str) -> dict[str, Any]:
    """Return the span of a rank with what it says of a stall."""
    texts = {"reason": "no_progress", "place": place, "frames": "train.py:3 → model.py:4"}
    lines = [{"stringValue": "default_pg: all_reduce 9"}]
    span["attributes"] += [
        {"key": "torch.stall.duration", "value": {"doubleValue": 60.5}},
        {"key": "torch.stall.collectives", "value": {"arrayValue": {"values": lines}}},
        *(
            {"key": f"torch.stall.{name}", "value": {"stringValue": text}}
            for name, text in texts.items()
        ),
    ]
    return span


def _file() -> list[Any]:
    """Return requests of two steps, one of them of two ranks, an evaluation, a stall, and a span of the program's."""
    first = [
        _span(1, 0, "train.step", "step", trace=1),
        _span(2, 1, "rank 2", "rank", trace=1),
        _span(3, 1, "rank 3", "rank", trace=1),
        _span(4, 2, "forward GPT", "forward", trace=1),
        _span(5, 3, "forward GPT", "forward", trace=1),
    ]
    second = [
        _span(6, 0, "train.step", "step", trace=2),
        _span(7, 6, "backward", "backward", trace=2),
        _span(8, 7, "rope", None, trace=2),
    ]
    outside = [_span(9, 0, "forward GPT", "forward", trace=3)]
    stall = [
        _span(10, 0, "train.stall", "stall", trace=4),
        _stalled(_span(11, 10, "rank 11", "rank", trace=4), "in forward GPT"),
        _stalled(_span(12, 10, "rank 12", "rank", trace=4), ""),
    ]
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "train"}}]}
    return [
        {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]}
        for spans in (first[:3], first[3:], second, outside, stall)
    ]


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every container in `value` with each of its keys."""
    stack = [value]
    while stack:
        container = stack.pop()
        keys = list(container) if isinstance(container, dict) else list(range(len(container)))
        for key in keys:
            yield container, key
            if isinstance(container[key], (dict, list)):
                stack.append(container[key])


@st.composite
def mutated_files(draw: st.DrawFn) -> bytes:
    requests = _file()
    for _ in range(draw(st.integers(1, 4))):
        places = list(_places(requests))
        if not places:
            break
        anywhere = st.integers(0, len(places) - 1)  # what is sampled from is hashed, each time
        container, key = places[draw(anywhere)]
        change = draw(st.sampled_from(("replace", "remove", "another", "twice")))
        if change == "replace":
            container[key] = draw(strange)
        elif (
            change == "another"
        ):  # ids and times end up where others belong: circles, twins, orphans
            other, other_key = places[draw(anywhere)]
            with contextlib.suppress(KeyError, IndexError):
                container[key] = json.loads(json.dumps(other[other_key]))
        elif change == "twice" and isinstance(container, list):
            container.insert(key, json.loads(json.dumps(container[key])))
        else:
            del container[key]
    lines = [json.dumps(request) for request in requests]
    text = "".join(f"{line}\n" for line in lines)
    for placeholder, written in AS_TEXT.items():
        text = text.replace(placeholder, written)
    content = text.encode()
    harm = draw(st.sampled_from(("none", "none", "none", "cut", "noise", "gzip")))
    if harm == "cut":
        return content[: draw(st.integers(0, len(content)))]
    if harm == "noise":
        at = draw(st.integers(0, len(content)))
        return content[:at] + draw(st.binary(max_size=20)) + content[at:]
    return gzip.compress(content) if harm == "gzip" else content


@pytest.fixture(autouse=True, scope="module")
def _parsers_made_once() -> Iterator[None]:
    """It takes half of the time of a command on a small file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("otel_torch_modules.cli.main.parser", functools.cache(parser))
        yield


def run(*arguments: str) -> tuple[int | str | None, str, str]:
    """Return the exit code of a command, what it printed, and what it printed to standard error."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code: int | str | None = main(arguments)
        except SystemExit as wrong_usage:
            code = wrong_usage.code
    return code, *(stream.buffer.getvalue().decode() for stream in (out, err))  # type: ignore[attr-defined]


def assert_printable(*outputs: str) -> None:
    for output in outputs:
        assert [line for line in STYLE.sub("", output).split("\n") if not line.isprintable()] == []


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.mark.slow
@given(content=mutated_files())
@settings(max_examples=examples(250), deadline=None, suppress_health_check=list(HealthCheck))
def test_every_file_is_shown_or_refused_in_one_line(content: bytes) -> None:
    with folder() as inside:
        path = inside / "run.jsonl"
        path.write_bytes(content)
        for command in COMMANDS:
            code, out, err = run(*(part.format(file=path) for part in command))
            assert_printable(out, err)
            if code == 2:
                assert (err.count("\n"), err[:20]) == (1, "otel-torch-modules: ")
            else:
                assert code in ((0, 1) if command[0] == "doctor" else (0,))
                assert out
                assert not err


@pytest.mark.slow
def test_a_tree_may_be_deeper_than_python_recurses(tmp_path: Path) -> None:
    depth = sys.getrecursionlimit() + 200
    spans = [_span(1, 0, "train.step", "step", trace=1)]
    spans += [_span(n, n - 1, f"forward {n}", "forward", trace=1) for n in range(2, depth)]
    path = tmp_path / "deep.jsonl"
    path.write_text(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}) + "\n")
    for command in (["why", "{file}"], *COMMANDS):
        if command[0] not in (
            "stragglers",
            "stalls",
            "doctor",
        ):  # there are none, and a step was dropped
            code, out, err = run(*(part.format(file=path) for part in command))
            assert (command, code, bool(out), err) == (command, 0, True, "")


def _at_all_places(text: str) -> Iterator[bytes]:
    """Yield files with `text` in the place of each string, one by one, and in all names at once."""
    for number, (container, key) in enumerate(_places(_file())):
        if isinstance(container[key], str):
            requests = _file()
            changed, key = list(_places(requests))[number]
            changed[key] = text
            yield "\n".join(map(json.dumps, requests)).encode()
    requests = _file()
    for container, key in _places(requests):
        if isinstance(container, dict):
            if key in ("name", "stringValue") and container[key] not in PHASES:
                container[key] = text
            elif key in ("traceId", "spanId", "parentSpanId") and container[key]:
                container[key] += text
    yield "\n".join(map(json.dumps, requests)).encode()


PHASES = ("step", "rank", "forward", "backward", "exception")


@pytest.mark.slow
def test_no_text_of_a_file_reaches_the_terminal_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    for content in _at_all_places("".join(EVIL)):
        path.write_bytes(content)
        for command in COMMANDS[2::2]:
            code, out, err = run(*(part.format(file=path) for part in command))
            assert code in (0, 2)
            assert_printable(out, err)


def test_styles_are_all_that_a_terminal_obeys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    path = tmp_path / "run.jsonl"
    *_, path_content = _at_all_places("".join(EVIL))
    path.write_bytes(path_content)
    for command in COMMANDS:
        _, out, err = run(*(part.format(file=path) for part in command))
        assert "\x1b[" in out or command[0] in (
            "doctor",
            "stalls",
            "stragglers",
            "report",
            "convert",
        )
        assert_printable(out, err)
        assert "\x1b]8" not in out


# A name cannot hold these.
file_names = evil_texts.map(lambda name: name.replace("/", "").replace("\0", "")).filter(
    lambda name: name.strip(".-") and len(os.fsencode(name.encode("utf-8", "replace"))) < 99
)


@pytest.mark.slow
@given(name=file_names, exists=st.booleans())
@settings(max_examples=examples(60), deadline=None, suppress_health_check=list(HealthCheck))
def test_no_name_of_a_file_reaches_the_terminal_as_it_is(name: str, exists: bool) -> None:
    # As the shell hands them on: bytes that are no UTF-8 are surrogates.
    name = name.encode("utf-8", "replace").decode() + os.fsdecode(b"\xff\x9b")
    with folder() as inside:
        path = inside / name
        if exists:
            path.write_text("".join(json.dumps(request) + "\n" for request in _file()) + "half")
        for command in (*COMMANDS, ["view", "{file}", "--step", "9"], ["view", "{file}", "{file}"]):
            arguments = [part.replace("{file}", str(path)) for part in command]
            assert_printable(*run(*arguments)[1:])


@given(
    environ=st.dictionaries(
        st.sampled_from((*OURS, *STANDARD)) | evil_texts.map("OTEL_TORCH_MODULES_{}".format),
        evil_texts,
        max_size=8,
    )
)
@settings(max_examples=examples(60), deadline=None)
def test_no_variable_reaches_the_terminal_as_it_is(environ: dict[str, str]) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConnectionRefusedError(111, "Connection refused")

    # As the system hands them on: bytes that are no UTF-8 are surrogates.
    environ = {
        name: os.fsdecode(value.replace("\0", "").encode("utf-8", "surrogatepass"))
        for name, value in environ.items()
    }
    environ.pop("OTEL_TORCH_MODULES_FILE", None)  # a file of this name would be tried
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("socket.create_connection", refuse)
        patch.setattr(os, "environ", environ)
        code, out, err = run("doctor")
    assert (code in (0, 1), err) == (True, "")
    assert_printable(out)


@given(word=evil_texts)
@settings(max_examples=examples(60), deadline=None)
def test_no_word_of_the_command_line_reaches_the_terminal_as_it_is(word: str) -> None:
    for arguments in (
        [word],
        ["view", "missing", "--step", word],
        ["view", "missing", "--depth", word],
        ["view", "missing", "--min-ms", word],
        ["view", "missing", f"--no-{word}"],  # `--h` asks for help
        ["stragglers", "missing", "--list", word],
    ):
        code, out, err = run(*arguments)
        assert code == 2
        assert_printable(out, err)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing", "No such file or directory"),
        ("folder", "Is a directory"),
        ("file/below", "Not a directory"),
        ("circle", "Too many levels of symbolic links"),
        ("long" * 100, "File name too long"),
    ],
)
def test_what_is_no_file_is_named(name: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    path = tmp_path / name
    for command in COMMANDS[:5]:
        code, out, err = run(*(part.format(file=path) for part in command))
        assert (code, out) == (2, "")
        assert err == f"otel-torch-modules: {path} cannot be read: {reason}\n"
    code, out, err = run("doctor", str(path))
    assert (code, err) == (1, "")
    assert out.endswith(f"\n1 thing is wrong:\n✗ {path} cannot be read: {reason}\n")


def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    content = "".join(json.dumps(request) + "\n" for request in _file())
    writer = threading.Thread(target=pipe.write_text, args=(content,))
    writer.start()
    code, out, err = run("view", "--list", str(pipe))
    writer.join()
    file = tmp_path / "file"
    file.write_text(content)
    assert (code, out, err) == run("view", "--list", str(file))
    assert code == 0


def test_lines_go_to_the_terminal_one_way() -> None:
    calls = [
        (path.name, node.func.id)
        for path, tree in trees_in(PACKAGE / "cli").items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    assert calls == [("say.py", "print")] * 2


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_an_interrupt_ends_it_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("otel_torch_modules._reading.traces.read_file", interrupt)
    assert run("view", str(tmp_path / "run.jsonl")) == (130, "", "")
