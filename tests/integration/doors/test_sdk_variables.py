"""OpenTelemetry's own variables mean what they mean elsewhere, where the provider is one of ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.otlp_receivers import RECEIVERS, grpc_receiver, http_receiver
from tests.support.side_by_side import side_by_side
from tests.support.training_program import BIN, ENABLED, STEP, TRAIN, outlines, run, said, traces


@pytest.mark.parametrize("protocol", RECEIVERS)
def test_protocol_endpoint_headers_and_compression(tmp_path: Path, protocol: str) -> None:
    variables = {
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20abc,x-team=red",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        "OTEL_SERVICE_NAME": "night",
        "OTEL_RESOURCE_ATTRIBUTES": "team=red,service.name=day",
    }
    with RECEIVERS[protocol]() as receiver:
        said(
            run(
                tmp_path,
                TRAIN + "train()",
                **ENABLED,
                **variables,
                OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
            )
        )
    assert receiver.outlines() == [STEP, STEP]
    for received in receiver.received:
        assert received.headers["authorization"] == "Bearer abc"
        assert received.headers["x-team"] == "red"
        assert received.headers.get(":path", "/v1/traces") == "/v1/traces"
    resources = [root.resource for root in receiver.traces()]
    assert [(r["service.name"], r["team"]) for r in resources] == [("night", "red")] * 2


def test_the_variables_of_traces_win(tmp_path: Path) -> None:
    with grpc_receiver() as general, http_receiver() as of_traces:
        variables = {
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": general.endpoint,
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{of_traces.endpoint}/here",
        }
        said(run(tmp_path, TRAIN + "train()", **ENABLED, **variables))
    assert general.received == []
    assert of_traces.outlines() == [STEP, STEP]
    assert {received.headers[":path"] for received in of_traces.received} == {"/here"}


def test_several_exporters_get_the_same_spans(tmp_path: Path) -> None:
    with grpc_receiver() as receiver:
        variables = {
            "OTEL_TRACES_EXPORTER": "otlp,otlp_file,console",
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
        }
        printed = said(run(tmp_path, TRAIN + "train()", **ENABLED, **variables))
    assert receiver.outlines() == outlines(tmp_path) == [STEP, STEP]
    assert [printed.count(f'"name": "{line.strip()}"') for line in STEP] == [2] * len(STEP)


def test_a_provider_that_is_not_there_costs_no_spans(tmp_path: Path) -> None:
    """A program that asks for it gets the API's error; one that does not is none the worse for the name."""
    named = {"OTEL_PYTHON_TRACER_PROVIDER": "nowhere"}
    done = run(tmp_path, TRAIN + "train(3)", **ENABLED, **named)
    assert done.returncode == 0
    assert outlines(tmp_path) == [STEP] * 3
    assert done.stderr == (
        "OTEL_PYTHON_TRACER_PROVIDER=nowhere is not installed; "
        "there are: default_tracer_provider, sdk_tracer_provider; it is ignored\n"
    )


def test_traces_can_be_switched_off(tmp_path: Path) -> None:
    def trained(folder: Path, variable: tuple[str, str]) -> list[list[str]]:
        done = run(folder, TRAIN + "train()\nprint('trained')", **ENABLED, **dict([variable]))
        assert said(done) == "trained\n", variable
        return outlines(folder)

    variables = [
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_SDK_DISABLED", "true"),
        ("OTEL_TRACES_SAMPLER", "always_off"),
    ]
    assert side_by_side(tmp_path, trained, variables) == {variable: [] for variable in variables}


def test_a_ratio_keeps_and_leaves_out_whole_steps(tmp_path: Path) -> None:
    sampler = {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.5"}
    said(run(tmp_path, TRAIN + "train(40)", **ENABLED, **sampler))
    kept = traces(tmp_path)
    assert [root.outline() for root in kept] == [STEP] * len(kept)
    assert 0 < len(kept) < 40
    assert all(int(root.trace_id[16:], 16) < 2**63 for root in kept)


def test_a_configuration_file_describes_the_provider(tmp_path: Path) -> None:
    with http_receiver() as receiver:
        file = tmp_path / "otel.yaml"
        file.write_text(f"""
file_format: "1.0"
resource:
  attributes:
    - name: service.name
      value: from a file
tracer_provider:
  processors:
    - batch:
        exporter:
          otlp_http:
            endpoint: {receiver.endpoint}/v1/traces
""")
        said(run(tmp_path, TRAIN + "train()", **ENABLED, OTEL_CONFIG_FILE=str(file)))
    assert receiver.outlines() == [STEP, STEP]
    assert {root.resource["service.name"] for root in receiver.traces()} == {"from a file"}


def test_a_configuration_file_that_the_sdk_would_not_read_is_named(tmp_path: Path) -> None:
    file = tmp_path / "otel.yaml"
    file.write_text("file_format: '1.0'")
    old = tmp_path / "old" / "opentelemetry_sdk-1.30.0.dist-info"
    old.mkdir(parents=True)
    (old / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: opentelemetry-sdk\nVersion: 1.30.0\n"
    )
    variables = {**ENABLED, "OTEL_CONFIG_FILE": str(file), "PYTHONPATH": str(old.parent)}
    line = "OTEL_CONFIG_FILE is not known to opentelemetry-sdk 1.30.0, but to 1.43 and later"
    done = run(tmp_path, f"{TRAIN}\ntrain()", **variables)
    assert (done.returncode, done.stderr) == (0, f"{line}; it is ignored\n")
    assert outlines(tmp_path) == [STEP, STEP]
    examined = run(tmp_path, "", command=[str(BIN / "otel-torch-modules"), "doctor"], **variables)
    assert f"✗ {line}" in examined.stdout.splitlines()


def test_spans_obey_the_limits_of_spans(tmp_path: Path) -> None:
    limits = {
        "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "2",
        "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "6",
        "OTEL_SPAN_LINK_COUNT_LIMIT": "0",
        "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": "1",
    }
    source = """
train(8)
model.act.register_forward_hook(lambda *_: 1 / 0)
try:
    train(1)
except ZeroDivisionError:
    pass
"""
    with http_receiver() as receiver:
        exporter = {
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        }
        said(run(tmp_path, TRAIN + source, **ENABLED, **limits, **exporter))
    spans = [
        span
        for received in receiver.received
        for of_resource in received.request.resource_spans
        for of_scope in of_resource.scope_spans
        for span in of_scope.spans
    ]
    assert {len(span.attributes) for span in spans if span.dropped_attributes_count} == {2}
    of_fc = [span for span in spans if span.name == "forward fc"]
    assert [
        (span.attributes[0].value.string_value, span.dropped_attributes_count) for span in of_fc
    ] == [("torch.", 6)] * 9
    backward = [span for span in spans if span.name == "backward fc"]
    assert [(len(span.links), span.dropped_links_count) for span in backward] == [(0, 1)] * 8
    (event,) = (event for span in spans for event in span.events)
    assert (len(event.attributes), event.dropped_attributes_count) == (1, 2)
    assert event.attributes[0].value.string_value == "Traceb"
