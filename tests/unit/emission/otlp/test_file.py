"""OTLP JSON lines: read back by the protocol's own message, ids and enums as OTLP spells them."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from otel_torch_modules._emission.emitter import Emitter
from otel_torch_modules._emission.otlp.file import OtlpFileSpanExporter
from otel_torch_modules._job.starter import JobContext
from otel_torch_modules._records import OuterParent, Raised
from otel_torch_modules._spans.span import Note, Span
from tests.support.otlp_languages import parsed_line as parsed


@pytest.fixture
def spans(memory: Any, small_tree: Span) -> list[ReadableSpan]:
    small_tree.attributes = {
        "b": True,
        "i": 2**40,
        "f": 0.5,
        "s": "ü",
        "l": (1, 2),
        "y": b"\x00\xff",
    }
    small_tree.children[0].error = Raised("ValueError", "no", "Traceback ...")
    small_tree.children[1].notes = [Note("add_event", ("seen", {"c": 1}, None), 60)]
    Emitter(lambda: memory.provider, JobContext({})).emit(small_tree)
    return list(memory.exporter.get_finished_spans())


def test_lines_say_what_the_standard_encoder_says(
    spans: list[ReadableSpan], tmp_path: Path
) -> None:
    path = tmp_path / "new" / "traces.jsonl"
    exporter = OtlpFileSpanExporter(str(path))
    assert exporter.export(spans) is SpanExportResult.SUCCESS
    assert exporter.export(spans[:1]) is SpanExportResult.SUCCESS
    assert exporter.force_flush()
    exporter.shutdown()
    lines = path.read_text().splitlines()
    assert [parsed(line) for line in lines] == [encode_spans(spans), encode_spans(spans[:1])]


def test_ids_are_lower_case_hexadecimal_and_enums_are_numbers(
    spans: list[ReadableSpan], tmp_path: Path
) -> None:
    path = tmp_path / "traces.jsonl"
    OtlpFileSpanExporter(str(path)).export(spans)
    written = json.loads(path.read_text())["resourceSpans"][0]["scopeSpans"][0]["spans"]
    ids = [f"{span.context.span_id:016x}" for span in spans]
    trace_id = f"{0xABC:032x}"
    assert [(s["traceId"], s["spanId"], s.get("parentSpanId"), s["kind"]) for s in written] == [
        (trace_id, ids[0], ids[2], 4),
        (trace_id, ids[1], ids[2], 5),
        (trace_id, ids[2], None, 1),
    ]
    assert [(link["traceId"], link["spanId"]) for link in written[1]["links"]] == [
        (trace_id, ids[0])
    ]
    assert written[0]["status"] == {"message": "ValueError: no", "code": 2}


def test_processes_and_ranks_have_files_of_their_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pid = os.getpid()
    monkeypatch.chdir(tmp_path)
    assert OtlpFileSpanExporter().path == f"{tmp_path}/traces-{pid}.jsonl"
    monkeypatch.setenv("OTEL_TORCH_MODULES_FILE", "out/{rank}/{pid}.jsonl")
    assert OtlpFileSpanExporter().path == f"{tmp_path}/out/0/{pid}.jsonl"
    monkeypatch.setenv("RANK", "3")
    assert OtlpFileSpanExporter().path == f"{tmp_path}/out/3/{pid}.jsonl"


WRITER = """
import sys
from otel_torch_modules._emission.otlp.file import OtlpFileSpanExporter
from otel_torch_modules._emission.otlp.request_exporter import EncodedRequest

path, writer, lines = sys.argv[1], sys.argv[2], int(sys.argv[3])
exporter = OtlpFileSpanExporter(path)
for line in range(lines):
    text = f"{writer} {line} " + writer * 100_000  # of more pages than one
    exporter.attempt(EncodedRequest(text.encode() + b"\\n", 1))
"""


def test_lines_of_several_writers_are_all_there_and_none_is_empty(tmp_path: Path) -> None:
    path, lines = tmp_path / "shared.jsonl", 200
    commands = [[sys.executable, "-c", WRITER, str(path), writer, str(lines)] for writer in "abcd"]
    processes = [subprocess.Popen(command) for command in commands]
    assert [process.wait() for process in processes] == [0] * 4
    written = path.read_text().split("\n")
    assert written.pop() == ""
    assert sorted(written) == sorted(
        f"{writer} {line} " + writer * 100_000 for writer in "abcd" for line in range(lines)
    )


def test_an_error_is_logged_once_and_never_raised(
    spans: list[ReadableSpan], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    exporter = OtlpFileSpanExporter(str(tmp_path / "file" / "traces.jsonl"))
    assert [exporter.export(spans), exporter.export(spans)] == [SpanExportResult.FAILURE] * 2
    assert [(r.levelno, r.getMessage()) for r in caplog.records] == [
        (logging.WARNING, f"Spans are lost: {exporter.path} cannot be written: File exists")
    ]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_writes_to_a_file_of_its_own(
    spans: list[ReadableSpan], tmp_path: Path
) -> None:
    exporter = OtlpFileSpanExporter(str(tmp_path / "{pid}.jsonl"))
    exporter.export(spans)
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if exporter.export(spans[:1]) is SpanExportResult.SUCCESS else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    exporter.export(spans)
    counts = {
        path.stem: [len(p.resource_spans[0].scope_spans[0].spans) for p in map(parsed, path.open())]
        for path in tmp_path.iterdir()
    }
    assert counts == {str(os.getpid()): [3, 3], str(child): [1]}


def test_a_remote_parent_is_named(memory: Any, small_tree: Span, tmp_path: Path) -> None:
    small_tree.trace = small_tree.trace._replace(parent=OuterParent(0xABC, 0xF, 1, None))
    Emitter(lambda: memory.provider, JobContext({})).emit(small_tree)
    path = tmp_path / "traces.jsonl"
    OtlpFileSpanExporter(str(path)).export(memory.exporter.get_finished_spans()[-1:])
    (written,) = json.loads(path.read_text())["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert written["parentSpanId"] == f"{0xF:016x}"


def test_a_pipe_is_left_alone_whose_number_the_program_has_given_to_another_file(
    spans: list[ReadableSpan], tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    exporter = OtlpFileSpanExporter(str(pipe))
    with open(tmp_path / "probe", "wb") as probe:
        number = probe.fileno()  # the next that is given
    exporter.export(spans)
    os.close(number)
    with open(tmp_path / "own", "wb", buffering=0) as own:
        assert own.fileno() == number
        exporter.export(spans)
        exporter.shutdown()
        own.write(b"mine")
    assert (tmp_path / "own").read_bytes() == b"mine"
    sent = os.read(reader, 1 << 20).decode()
    os.close(reader)
    assert [parsed(line) for line in sent.splitlines()] == [encode_spans(spans)] * 2


def test_a_file_is_open_only_while_it_is_written(spans: list[ReadableSpan], tmp_path: Path) -> None:
    exporter = OtlpFileSpanExporter(str(tmp_path / "traces.jsonl"))
    exporter.export(spans)
    with open(tmp_path / "own", "wb") as own:
        number = own.fileno()
    exporter.export(spans)
    with open(tmp_path / "own", "wb") as own:
        assert own.fileno() == number
