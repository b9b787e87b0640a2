"""Requests of metrics, logs and profiles between those of traces: no damage, and every answer is as without them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_torch_modules._reading.content import zstd  # type: ignore[attr-defined]
from otel_torch_modules._reading.source_error import SourceError
from otel_torch_modules._reading.traces import Traces
from otel_torch_modules.cli.main import main

Write = Callable[..., Path]

RESOURCE = {"attributes": [{"key": "service.name", "value": {"stringValue": "another"}}]}
TIMES = {"startTimeUnixNano": "1700000000000000000", "timeUnixNano": "1700000000050000000"}
IDS = {"traceId": f"{2:032x}", "spanId": f"{5:016x}"}  # of a span that is there
POINT = {**TIMES, "asDouble": 0.25, "exemplars": [{**IDS, "timeUnixNano": "1", "asInt": "7"}]}


def metrics(*of_scope: dict[str, Any]) -> dict[str, Any]:
    return {"resourceMetrics": [{"resource": RESOURCE, "scopeMetrics": [{"metrics": of_scope}]}]}


def logs(*of_scope: dict[str, Any]) -> dict[str, Any]:
    return {"resourceLogs": [{"resource": RESOURCE, "scopeLogs": [{"logRecords": of_scope}]}]}


OTHERS: dict[str, dict[str, Any]] = {
    "a gauge": metrics({"name": "g", "unit": "s", "gauge": {"dataPoints": [POINT]}}),
    "a sum named as long as an id": metrics(
        {
            "name": "torch.step.count",  # 16 bytes, as those of a trace
            "description": "of steps",  # 8 bytes, as those of a span
            "sum": {"dataPoints": [POINT], "aggregationTemporality": 2, "isMonotonic": True},
        }
    ),
    "a histogram": metrics(
        {
            "name": "h",
            "histogram": {
                "aggregationTemporality": 2,
                "dataPoints": [
                    {
                        **TIMES,
                        "count": "3",
                        "sum": 1.5,
                        "bucketCounts": ["1", "2"],
                        "explicitBounds": [0.5],
                    }
                ],
            },
        },
        {"name": "g", "gauge": {"dataPoints": [POINT]}},
    ),
    "a summary": metrics(
        {"name": "s", "summary": {"dataPoints": [{**TIMES, "count": "1", "sum": 2.0}]}}
    ),
    "no metric": {"resourceMetrics": []},
    "a resource without metrics": {"resourceMetrics": [{"resource": RESOURCE}]},
    "a line of a log, of a span": logs(
        {
            **IDS,
            "timeUnixNano": "1700000000050000000",
            "severityNumber": 9,
            "severityText": "INFO",
            "body": {"stringValue": "epoch 1"},
            "flags": 1,
        }
    ),
    "a bare line of a log": logs({"body": {"stringValue": "epoch 1"}}),
    "a log's line of structure": logs(
        {"body": {"kvlistValue": {"values": [{"key": "loss", "value": {"doubleValue": 0.1}}]}}}
    ),
    "no log": {"resourceLogs": []},
    "nothing": {},
}
PROFILES: dict[str, Any] = {"resourceProfiles": [{"resource": RESOURCE}], "dictionary": {}}


def of_json(request: dict[str, Any]) -> bytes:
    return json.dumps(request).encode() + b"\n"


def of_protobuf(request: dict[str, Any]) -> bytes:
    kind = (
        ExportMetricsServiceRequest
        if "resourceMetrics" in request
        else ExportLogsServiceRequest
        if "resourceLogs" in request
        else ExportTraceServiceRequest
    )
    message: bytes = ParseDict(_with_bytes(request), kind()).SerializeToString()
    return message


def _with_bytes(value: Any) -> Any:
    """Return a request as protobuf's own JSON has it, whose ids are in base64."""
    if isinstance(value, (list, tuple)):
        return [_with_bytes(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: base64.b64encode(bytes.fromhex(item)).decode()
        if key in ("traceId", "spanId", "parentSpanId")
        else _with_bytes(item)
        for key, item in value.items()
    }


def with_lengths(messages: Iterable[bytes]) -> bytes:
    return b"".join(len(message).to_bytes(4, "big") + message for message in messages)


def of_lines(requests: Sequence[dict[str, Any]]) -> bytes:
    return b"".join(map(of_json, requests))


ENCODINGS: dict[str, Callable[[Sequence[dict[str, Any]]], bytes]] = {
    "lines": of_lines,
    "protobuf": lambda requests: with_lengths(map(of_protobuf, requests)),
    "JSON packed by message": lambda requests: with_lengths(
        zstd.compress(of_json(request)) for request in requests
    ),
    "protobuf packed by message": lambda requests: with_lengths(
        zstd.compress(of_protobuf(request)) for request in requests
    ),
}
COMMANDS = (
    ["why", "{}"],
    ["why", "{}", "--step", "1"],
    ["why", "{}", "--json"],
    ["view", "{}"],
    ["view", "{}", "--list"],
    ["report", "{}", "-o", "out"],
    ["convert", "{}", "--to", "chrome", "-o", "out"],
    ["compare", "{}", "{}"],
    ["stragglers", "{}"],
    ["stalls", "{}"],
    ["doctor", "{}"],
)


@pytest.fixture
def requests(write_traces: Write, step: Any, sample: Any) -> list[dict[str, Any]]:
    """Return requests of a run in which each step has several, and one rank has hung at its end."""
    stall = sample("train.stall", "stall", 900, 990, (), {"torch.stall.reason": "no_progress"})
    path = write_traces(*(step(at, 100 * at) for at in range(4)), stall, per_line=9)
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("other", OTHERS)
def test_no_command_says_anything_else(
    other: str,
    encoding: str,
    requests: list[dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    alone, mixed = (Path(name) / "run" for name in ("alone", "mixed"))
    encoded = ENCODINGS[encoding]
    between = [each for request in requests for each in (OTHERS[other], request)]
    for path, content in ((alone, requests), (mixed, [*between, OTHERS[other]])):
        path.parent.mkdir()
        path.write_bytes(encoded(content))
    expected, said = (
        [_answer(command, path, capsys) for command in COMMANDS] for path in (alone, mixed)
    )
    assert said == expected


def _answer(
    command: list[str], path: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, str, bytes]:
    out = Path("out")
    out.unlink(missing_ok=True)
    code = main([argument.format(path) for argument in command])
    out_text, error_text = capsys.readouterr()
    written = out.read_bytes().replace(str(path).encode(), b"run") if out.exists() else b""
    return code, *(text.replace(str(path), "run") for text in (out_text, error_text)), written


def test_profiles_have_no_protobuf_of_their_own_yet_but_are_known_as_json(
    requests: list[dict[str, Any]], tmp_path: Path
) -> None:
    path = tmp_path / "run"
    path.write_bytes(of_lines([PROFILES, *requests, PROFILES]))
    read = Traces.read(path)
    assert (len(read.whole_steps), [*read.losses()]) == (4, [])


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    ("others", "told"),
    [
        (["a gauge", "a bare line of a log"], "holds logs and metrics, but no trace"),
        (["a histogram"], "holds metrics, but no trace"),
    ],
)
def test_a_file_of_nothing_else_is_said_to_be_one(
    others: list[str], told: str, encoding: str, tmp_path: Path
) -> None:
    path = tmp_path / "run"
    path.write_bytes(ENCODINGS[encoding]([OTHERS[other] for other in others]))
    with pytest.raises(SourceError, match=f"^{path} {told}$"):
        Traces.read(path)


@pytest.mark.parametrize("other", ["a gauge", "a line of a log, of a span"])
@pytest.mark.parametrize("glued", [False, True])
def test_of_a_line_of_another_signal_that_is_torn_no_step_has_lost_anything(
    other: str, glued: bool, requests: list[dict[str, Any]], tmp_path: Path
) -> None:
    lines = [of_json(request) for request in requests]
    half = of_json(OTHERS[other])[:-20]
    path = tmp_path / "run"
    path.write_bytes(b"".join([*lines[:4], half, b"" if glued else b"\n", *lines[4:], half]))
    read = Traces.read(path)
    # The line that the half one is glued to is in the middle of the second step.
    assert [step.step for step in read.steps if step.incomplete] == ([1] if glued else [])
    assert [loss.partition(": ")[2] for loss in read.losses()][:2] == [
        "line 5 is not an OTLP JSON trace request and was left out",
        "the last line is cut off and was left out",
    ]


@pytest.mark.parametrize("place", ["between", "last"])
def test_a_message_that_is_none_is_the_last_only_where_it_is(
    place: str, requests: list[dict[str, Any]], tmp_path: Path
) -> None:
    messages = [of_json(request).rstrip() for request in requests]
    messages.insert(3 if place == "between" else len(messages), b'{"resourceSp')
    path = tmp_path / "run"
    path.write_bytes(with_lengths(zstd.compress(message) for message in messages))
    number = 1 + messages.index(b'{"resourceSp')
    told = f"{path}: message {number} is not an OTLP trace request and was left out"
    assert next(Traces.read(path).losses()) == told
