"""What the variables name is made as the SDK makes it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, TraceBasedExemplarFilter
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter
from opentelemetry.sdk.trace import SpanLimits
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, DEFAULT_ON

from otel_torch_modules import _entry_points
from otel_torch_modules._emission import named
from otel_torch_modules._entry_points import GROUPS
from tests.support.plugins import NAME, write_plugin

FILE = "OTEL_TORCH_MODULES_FILE"


@pytest.mark.parametrize(
    ("variables", "made"),
    [
        ({}, ["GrpcRequestExporter"]),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, ["GrpcRequestExporter"]),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, ["HttpRequestExporter"]),
        ({"OTEL_TRACES_EXPORTER": "otlp_proto_http"}, ["HttpRequestExporter"]),
        (
            {"OTEL_TRACES_EXPORTER": "otlp_file,console"},
            ["OtlpFileSpanExporter", "ConsoleSpanExporter"],
        ),
        ({"OTEL_TRACES_EXPORTER": "none"}, []),
        # Who names a file wants one.
        ({FILE: "{pid}.jsonl"}, ["OtlpFileSpanExporter"]),
        ({FILE: "{pid}.jsonl", "OTEL_TRACES_EXPORTER": " "}, ["OtlpFileSpanExporter"]),
        ({FILE: " "}, ["GrpcRequestExporter"]),
        (
            {FILE: "{pid}.jsonl", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://localhost:1"},
            ["GrpcRequestExporter", "OtlpFileSpanExporter"],
        ),
        ({FILE: "{pid}.jsonl", "OTEL_TRACES_EXPORTER": "otlp"}, ["GrpcRequestExporter"]),
        ({FILE: "{pid}.jsonl", "OTEL_TRACES_EXPORTER": "none"}, []),
    ],
)
def test_trace_exporters(variables: dict[str, str], made: list[str]) -> None:
    exporters = named.trace_exporters(variables)
    assert [type(exporter).__name__ for exporter in exporters] == made
    for exporter in exporters:
        exporter.shutdown()


@pytest.mark.parametrize(
    ("exporter", "imported"),
    [
        ("none", []),
        ("console", []),
        ("otlp_file", []),
        ("otlp_proto_grpc", ["grpc"]),
        ("otlp_proto_http", ["requests"]),
        ("otlp_proto_grpc,otlp_proto_http", ["grpc", "requests"]),
    ],
)
def test_of_the_libraries_that_send_those_are_imported_that_are_asked_for(
    exporter: str, imported: list[str], tmp_path: Path
) -> None:
    source = f"""
import sys
from otel_torch_modules._emission import named
for exporter in named.trace_exporters({{"OTEL_TRACES_EXPORTER": {exporter!r}}}):
    exporter.shutdown()
print(sorted({{"grpc", "requests"}} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", source], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == str(imported)


@pytest.mark.parametrize("source", ["import no_such_library", "def make(): return 'licence'"])
def test_credentials_that_cannot_be_made_cost_no_exporter(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    source: str,
) -> None:
    variables = {name: NAME for name in GROUPS if name.endswith("_CREDENTIAL_PROVIDER")}
    write_plugin(tmp_path, {GROUPS[name] for name in variables}, source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(_entry_points, "_logged", set())
    monkeypatch.delitem(sys.modules, "acme_telemetry", raising=False)
    values = {
        **variables,
        "OTEL_TRACES_EXPORTER": "otlp_proto_grpc,otlp_proto_http",
        "OTEL_METRICS_EXPORTER": "otlp_proto_grpc,otlp_proto_http",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "https://127.0.0.1:1",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    exporters = [*named.trace_exporters(values), *named.metric_exporters(values)]
    assert len(exporters) == 4
    for exporter in exporters:
        exporter.shutdown()
    assert sorted(line.partition("=")[0] for line in caplog.messages) == sorted(variables)


def test_metric_exporters() -> None:
    assert named.metric_exporters({}) == []
    (exporter,) = named.metric_exporters({"OTEL_METRICS_EXPORTER": "console"})
    assert isinstance(exporter, ConsoleMetricExporter)


def test_sampler() -> None:
    assert named.sampler({}) is DEFAULT_ON
    assert named.sampler({"OTEL_TRACES_SAMPLER": "always_off"}) is ALWAYS_OFF
    ratio = {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"}
    assert named.sampler(ratio).get_description() == "TraceIdRatioBased{0.25}"


def test_id_generator() -> None:
    assert named.id_generator({}) is None
    made = named.id_generator({"OTEL_PYTHON_ID_GENERATOR": "random"})
    assert isinstance(made, RandomIdGenerator)


def test_exemplar_filter() -> None:
    assert isinstance(named.exemplar_filter({}), TraceBasedExemplarFilter)
    made = named.exemplar_filter({"OTEL_METRICS_EXEMPLAR_FILTER": "always_off"})
    assert isinstance(made, AlwaysOffExemplarFilter)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_ATTRIBUTE_COUNT_LIMIT": "3"},
        {"OTEL_ATTRIBUTE_COUNT_LIMIT": "", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "7"},
        {"OTEL_ATTRIBUTE_COUNT_LIMIT": "3", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": ""},
        {"OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "9", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "7"},
        {"OTEL_SPAN_EVENT_COUNT_LIMIT": "0", "OTEL_SPAN_LINK_COUNT_LIMIT": ""},
        {"OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": "1", "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT": "2"},
    ],
)
def test_span_limits_are_those_that_the_sdk_reads(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert repr(named.span_limits(variables)) == repr(SpanLimits())


@pytest.mark.parametrize(
    ("variables", "queue", "batch"),
    [
        ({}, 2048, 512),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "100"}, 100, 100),
        ({"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "5000"}, 5000, 5000),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "100", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "7"}, 100, 7),
    ],
)
def test_a_batch_fits_into_the_queue(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], queue: int, batch: int
) -> None:
    checked: list[tuple[object, ...]] = []
    monkeypatch.setattr(
        BatchSpanProcessor, "_validate_arguments", lambda *given: checked.append(given)
    )
    named.span_processor(ConsoleSpanExporter(), variables).shutdown()
    assert checked == [(queue, 1000, batch)]
