"""What we encode is, behind a collector that writes it to a file, what the standard encoder's spans are there."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

from otel_torch_modules._emission.otlp.columns import ColumnsEncoder
from otel_torch_modules._emission.otlp.encoder import SpanEncoder
from otel_torch_modules._emission.otlp.protobuf import Protobuf
from otel_torch_modules._emission.otlp.signal import TRACES
from otel_torch_modules._emission.record_spans import RecordSpans
from otel_torch_modules._emission.sampling import Decision
from tests.support.backend_programs import Program, find, free_ports
from tests.support.examples import examples
from tests.support.otlp_spans import SCOPE, ours, runs, span_ids, standard, tracer
from tests.unit.assembly.repeating.test_repeats import Loop, Training, loops, ticks_from
from tests.unit.emission.otlp.test_columns import repeated

pytestmark = pytest.mark.backend

_CONFIG = """
extensions: {{health_check: {{endpoint: "127.0.0.1:{health}"}}}}
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:{grpc}"}}}}}}}}
exporters: {{file: {{path: "{path}", flush_interval: 10ms}}}}
service:
  extensions: [health_check]
  pipelines: {{traces: {{receivers: [otlp], exporters: [file]}}}}
  telemetry: {{metrics: {{level: none}}}}
"""
_LIMIT_S = 30


class FileCollector:
    """A collector that writes a line for each request."""

    def __init__(self, channel: grpc.Channel, path: Path) -> None:
        self._export = channel.unary_unary(TRACES.method)
        self._path = path
        self._read = 0  # bytes: the file grows, and only what is new is looked at

    def round_trip(self, request: bytes) -> Any:
        """Return what is in the file for an encoded request, with its spans in an order that does not depend on it."""
        self._export(request, timeout=_LIMIT_S)
        deadline = time.monotonic() + _LIMIT_S
        while not (line := self._unread()).endswith(b"\n"):
            assert time.monotonic() < deadline, "the collector has written nothing"
            time.sleep(0.005)
        self._read += len(line)
        found = json.loads(line)
        for resource_spans in found["resourceSpans"]:
            for scope_spans in resource_spans["scopeSpans"]:
                scope_spans["spans"].sort(key=json.dumps)
        return found

    def _unread(self) -> bytes:
        with self._path.open("rb") as file:
            file.seek(self._read)
            return file.read()


@pytest.fixture(scope="module")
def file_collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileCollector]:
    folder = tmp_path_factory.mktemp("file-collector")
    port, health = free_ports(2)
    path, config = folder / "spans.jsonl", folder / "collector.yaml"
    config.write_text(_CONFIG.format(grpc=port, health=health, path=path))
    program = Program(
        [find("otelcol"), "--config", str(config)],
        {},
        f"http://127.0.0.1:{health}/",
        folder / "collector.log",
    )
    with program, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield FileCollector(channel, path)


_SETTINGS = settings(max_examples=examples(50), deadline=None)


@_SETTINGS
@given(runs())
def test_spans_made_one_by_one(file_collector: FileCollector, run: list[RecordSpans]) -> None:
    encoder = SpanEncoder(tracer(), SCOPE, Protobuf())
    for record in run:
        if record.spans:
            expected = file_collector.round_trip(standard(record).SerializeToString())
            assert file_collector.round_trip(ours(encoder, record)) == expected


@_SETTINGS
@given(loops(), st.data())
def test_spans_of_a_step_like_an_earlier_one(
    file_collector: FileCollector, loop: Loop, data: st.DataObject
) -> None:
    loop.late = False
    training = Training(ticks_from(data))
    columns = repeated([training.step(loop) for _ in range(4)])
    count = len(columns.starts)
    ids = data.draw(st.lists(span_ids, min_size=count, max_size=count, unique=True))
    decision = Decision(1, None)
    for head, span_id in zip(columns.heads, ids, strict=False):
        head.span_id = span_id
    encoder = SpanEncoder(tracer(), SCOPE, Protobuf())
    apart = RecordSpans([*columns.heads, *columns.spans_apart(ids)], decision, tracer(), SCOPE)
    columns.span_ids = ids
    blocks = ColumnsEncoder(encoder, 5).encode([columns], 1)
    encoded = [*encoder.encode([(apart, apart.spans)]), *(block.data for (block,) in blocks)]
    spans = list(columns.tree().walk())
    for span, span_id in zip(spans, ids, strict=True):
        span.span_id = span_id
    batch = RecordSpans(spans, decision, tracer(), SCOPE)
    expected = encode_spans([batch.finished(span) for span in spans])
    columns.release()
    assert file_collector.round_trip(
        encoder.request(encoded, count).data
    ) == file_collector.round_trip(expected.SerializeToString())
