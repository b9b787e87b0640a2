"""One run is the same run, however its requests were encoded, packed and handed over."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import sys
import threading
from array import array
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_torch_modules._reading.arrivals import OF_A_SITE, Arrivals
from otel_torch_modules._reading.content import zstd  # type: ignore[attr-defined]
from otel_torch_modules._reading.damage import Damage
from otel_torch_modules._reading.json_lines import JsonReader
from otel_torch_modules._reading.protobuf import ProtobufReader
from otel_torch_modules._reading.source_error import SourceError
from otel_torch_modules._reading.traces import Traces
from otel_torch_modules._trace import Span

Write = Callable[..., Path]
Pack = Callable[[bytes], bytes]


def whole(span: Span) -> Any:
    """Return all that is known of a span and of those below it."""
    ids = (span.trace_id, span.span_id, span.parent_id, span.link_id)
    about = (*ids, span.name, span.start, span.end)
    ended = (span.failed, span.exception, span.process, span.incomplete)
    return (about, ended, span.attributes, [whole(child) for child in span.children])


def protobuf(line: str) -> bytes:
    request = json.loads(line)
    for of_resource in request["resourceSpans"]:
        for span in of_resource["scopeSpans"][0]["spans"]:  # protobuf's own JSON has ids in base64
            for having in (span, *span.get("links", ())):
                for key in ("traceId", "spanId", "parentSpanId"):
                    if key in having:
                        having[key] = base64.b64encode(bytes.fromhex(having[key])).decode()
    return json_format.ParseDict(request, ExportTraceServiceRequest()).SerializeToString()


def with_lengths(messages: Iterable[bytes]) -> bytes:
    return b"".join(len(message).to_bytes(4, "big") + message for message in messages)


ENCODINGS: dict[str, Callable[[list[str]], bytes]] = {
    "lines": lambda lines: "".join(lines).encode(),
    "lines without end": lambda lines: "".join(lines).rstrip().encode(),
    "lines with blanks, a mark and carriage returns": lambda lines: (
        "\ufeff" + "\r\n\r\n".join(line.rstrip() for line in lines)
    ).encode(),
    "protobuf": lambda lines: with_lengths(map(protobuf, lines)),
    "JSON packed by message": lambda lines: with_lengths(
        zstd.compress(line.encode()) for line in lines
    ),
    "protobuf packed by message": lambda lines: with_lengths(
        zstd.compress(protobuf(line)) for line in lines
    ),
}
PACKINGS: dict[str, Pack] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "gzip in parts": lambda content: gzip.compress(content[:999]) + gzip.compress(content[999:]),
    "zstd": zstd.compress,
    "zstd in parts": lambda content: zstd.compress(content[:999]) + zstd.compress(content[999:]),
}


@pytest.fixture
def lines(write_traces: Write, step: Any, sample: Any) -> list[str]:
    """Return lines of two steps, one of which failed, with attributes of every kind."""
    failed = sample(
        "rope",
        None,
        150,
        151,
        attributes={"base": 7, "sizes": [1, 2], "flag": True, "text": "ü"},
        exception=("ValueError", "bad\nvalue"),
    )
    second = step(1, 100)
    path = write_traces(step(0), second._replace(children=(*second.children, failed)), per_line=9)
    return [_linked(line) for line in path.read_text(encoding="utf-8").splitlines(keepends=True)]


def _linked(line: str) -> str:
    """Return a request with links: of each third span one to the span before it, and first one to another trace."""
    request = json.loads(line)
    spans = request["resourceSpans"][0]["scopeSpans"][0]["spans"]
    for before, span in list(pairwise(spans))[::3]:
        elsewhere = {"traceId": "f" * 32, "spanId": "e" * 16}
        span["links"] = [elsewhere, {"traceId": before["traceId"], "spanId": before["spanId"]}]
    return json.dumps(request, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_in_every_packing_is_the_same_run(
    encoding: str, packing: str, lines: list[str], tmp_path: Path
) -> None:
    plain = tmp_path / "plain.jsonl"
    plain.write_text("".join(lines), encoding="utf-8")
    path = tmp_path / "packed"
    path.write_bytes(PACKINGS[packing](ENCODINGS[encoding](lines)))
    expected, read = Traces.read(plain), Traces.read(path)
    assert len(expected.steps) == 2
    assert sum(bool(span.link_id) for root in expected.roots for span in root.walk()) == 16
    assert [*map(whole, read.roots)] == [*map(whole, expected.roots)]
    assert list(read.losses()) == []


@pytest.mark.parametrize("key", sorted(OF_A_SITE))
def test_a_number_that_a_place_says_is_the_places_in_every_encoding(key: str) -> None:
    readers: list[tuple[Any, Callable[[str], bytes]]] = [
        (JsonReader, str.encode),
        (ProtobufReader, protobuf),
    ]
    for reader, encoded in readers:
        arrivals = Arrivals()
        for value in (1.5, 2.5):
            attributes = [
                {"key": name, "value": {"doubleValue": value}} for name in ("torch.self_time", key)
            ]
            span = {
                "traceId": "a" * 32,
                "spanId": "b" * 16,
                "startTimeUnixNano": "1",
                "endTimeUnixNano": "2",
                "attributes": attributes,
            }
            request = {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}
            reader(arrivals, Damage("file")).read(1, encoded(json.dumps(request)))
        assert [site.attributes for site in arrivals.sites] == [{key: 1.5}, {key: 2.5}]
        (trace,) = arrivals.traces.values()
        assert dict(trace.measures) == {"torch.self_time": array("d", [1.5, 2.5])}


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_pipe_may_be_packed_and_come_in_small_pieces(
    packing: str, lines: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = PACKINGS[packing]("".join(lines).encode())
    reader, writer = os.pipe()

    def trickle() -> None:
        with open(writer, "wb", buffering=0) as pipe:
            for at in range(0, len(content), 97):
                pipe.write(content[at : at + 97])

    thread = threading.Thread(target=trickle)
    thread.start()
    with open(reader, "rb") as stream:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stream))
        read = Traces.read("-")
    thread.join()
    path = tmp_path / "plain"
    path.write_text("".join(lines), encoding="utf-8")
    assert [*map(whole, read.roots)] == [*map(whole, Traces.read(path).roots)]
    assert read.name == "standard input"


@pytest.mark.parametrize("packing", list(PACKINGS)[1:])
def test_of_a_packed_file_that_was_torn_all_before_the_tear_is_read(
    packing: str, lines: list[str], tmp_path: Path
) -> None:
    many = "".join(
        line.replace('"traceId": "00', f'"traceId": "{number:02x}')
        for number in range(60)
        for line in lines
    )
    path = tmp_path / "packed"
    content = PACKINGS[packing](many.encode())
    path.write_bytes(content[: len(content) - len(content) // 10])
    read = Traces.read(path)
    assert read.steps
    (told, *others) = read.losses()
    assert told == (
        f"{path}: what it was packed in is damaged or cut off; what comes after could not be read"
    )
    assert all("incomplete" in loss or "no root" in loss for loss in others)


@pytest.mark.parametrize("encoding", list(ENCODINGS)[3:])
def test_of_messages_the_last_of_which_is_cut_off_the_others_are_read(
    encoding: str, lines: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "messages"
    path.write_bytes(ENCODINGS[encoding](lines)[:-3])
    read = Traces.read(path)
    assert [step.step for step in read.steps] == [0, 1]
    assert [step.step for step in read.whole_steps] == [0]
    assert next(read.losses()) == f"{path}: the last message is cut off and was left out"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\x00\x00\x00\x05hello", "message 1 is not an OTLP trace request"),
        (b"\x00", "message 1 is not an OTLP trace request"),
        (
            gzip.compress(b"", mtime=0)[:9],
            "cannot be read: what it was packed in is damaged or cut off",
        ),
        (zstd.compress(b"x")[:5], "cannot be read: what it was packed in is damaged or cut off"),
        (gzip.compress(b"hello", mtime=0), "line 1 is not an OTLP JSON trace request"),
        (gzip.compress(b"", mtime=0), "is empty: no trace has been written to it yet"),
        (b"PK\x03\x04", "line 1 is not an OTLP JSON trace request"),
    ],
)
def test_what_is_no_trace_is_named(content: bytes, told: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(SourceError) as caught:
        Traces.read(path)
    assert str(caught.value).replace(":", "") == f"{path} {told}".replace(":", "")
