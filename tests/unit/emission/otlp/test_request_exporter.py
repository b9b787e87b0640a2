"""Requests of what a processor of the SDK hands over: none that a receiver refuses for its size, if possible."""

from __future__ import annotations

import logging
import os

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult

from otel_torch_modules._emission import named
from otel_torch_modules._emission.otlp.reply import TAKEN, Reply
from otel_torch_modules._emission.otlp.request_exporter import EncodedRequest, RequestExporter
from otel_torch_modules._emission.otlp.trial import try_to_send
from otel_torch_modules._engine.deliveries import Deliveries
from otel_torch_modules._recording.losses import Losses
from otel_torch_modules._records import Record
from otel_torch_modules._standard_variables import read_standard
from otel_torch_modules.cli.exporter_trial import refusal
from tests.support.otlp_receivers import RECEIVERS, Said, answering


def spans_of(*sizes: int) -> list[ReadableSpan]:
    """Return spans with names that are numbers and an attribute of so many characters."""
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("program")
    spans = []
    for number, size in enumerate(sizes):
        span = tracer.start_span(str(number), attributes={"text": "x" * size})
        span.end()
        assert isinstance(span, ReadableSpan)
        spans.append(span)
    return spans


@pytest.mark.parametrize("protocol", RECEIVERS)
def test_a_batch_of_the_programs_spans_is_split_by_bytes(
    monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    with RECEIVERS[protocol]() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
        (exporter,) = named.trace_exporters(read_standard(os.environ).values)
        assert isinstance(exporter, RequestExporter)
        assert exporter.export(spans_of(*[400_000] * 20)) is SpanExportResult.SUCCESS
        exporter.shutdown()
        requests = [received.request for received in receiver.received]
    assert max(request.ByteSize() for request in requests) <= 1 << 20
    names = [span.name for r in requests for span in r.resource_spans[0].scope_spans[0].spans]
    assert names == [str(number) for number in range(20)]


def test_a_span_that_is_too_large_by_itself_is_said_and_costs_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "otel_torch_modules")
    with RECEIVERS["grpc"]() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        (exporter,) = named.trace_exporters(read_standard(os.environ).values)
        assert exporter.export(spans_of(10, 5 << 20, 10)) is SpanExportResult.FAILURE
        exporter.shutdown()
        requests = [received.request for received in receiver.received]
        place = receiver.endpoint.rpartition("/")[2]
    names = [span.name for r in requests for span in r.resource_spans[0].scope_spans[0].spans]
    assert names == ["0", "2"]
    said = caplog.records[0].getMessage()
    assert said.startswith(f"Spans are lost: {place} answers RESOURCE_EXHAUSTED: ")


@pytest.mark.parametrize(
    ("headers", "said", "taken"),
    [
        ({"content-type": "text/html; charset=utf-8"}, b"<!doctype html><title>Jaeger UI", False),
        ({"Content-Type": "TEXT/HTML"}, b"<html>", False),
        ({"content-type": "text/html"}, b"", True),  # nothing is said
        ({"content-type": "text/plain"}, b"<ok>", True),  # in words of its own
        ({"content-type": "application/json"}, b'{"partialSuccess":{}}', True),
        ({}, b"<ok>", True),
    ],
)
def test_a_web_page_is_no_receiver(headers: dict[str, str], said: bytes, taken: bool) -> None:
    with answering("http/protobuf", lambda: Said(200, headers, said)) as receiver:
        values = {
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
        }
        reply = try_to_send("otlp", values)
    place = receiver.endpoint.rpartition("/")[2]
    refused = Reply("200", f"{place} answers with a web page: it is no receiver of OTLP")
    assert reply == (TAKEN if taken else refused)


class OddError(Exception):
    """Its name is no text that UTF-8 has bytes for."""

    __qualname__ = "Odd\ud800"


SHOWN = "Odd\N{REPLACEMENT CHARACTER}"


class Failing(RequestExporter):
    def attempt(self, request: EncodedRequest) -> Reply:
        raise OddError


def of_assembly() -> str:
    deliveries = Deliveries()
    with pytest.raises(OddError), deliveries.assembling(Record("step", 0, 0, 0)):
        raise OddError
    return next(error for error, count in deliveries.outcomes().items() if count)


def of_recording() -> str:
    counted: list[str] = []
    Losses(counted.append, lambda: None).add(OddError(), "in a test")
    return counted[0]


def of_sending() -> str:
    exporter = Failing()
    exporter.set_up("here", 1.0)
    return exporter.export_request(EncodedRequest(b"", 0)).error


@pytest.mark.parametrize("found", [of_assembly, of_recording, of_sending])
def test_the_type_of_an_error_is_a_text_that_can_be_sent(found: object) -> None:
    assert callable(found)
    assert found() == SHOWN


def test_doctor_shows_no_secret_that_a_receiver_repeats_and_no_more_than_a_line() -> None:
    said = ExportTraceServiceResponse()
    said.partial_success.rejected_spans = 1
    said.partial_success.error_message = f"Authorization: Bearer s3cr3t\n{'x' * 100_000}"
    with answering("grpc", lambda: said) as receiver:
        values = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
            "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20s3cr3t",
        }
        shown = refusal("otlp", values)
    assert " rejects 1 of 0 spans: Authorization: ***" in shown
    assert "s3cr3t" not in shown
    assert len(shown) <= 2_001
