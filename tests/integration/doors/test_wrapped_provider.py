"""A provider that wraps the SDK's: spans go to what it wraps. The real Logfire is one."""

from __future__ import annotations

from pathlib import Path

from tests.support.training_program import ENABLED, STEP, TRAIN, run, said, traces

LOGFIRE = """
import logfire
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from otel_torch_modules._emission.otlp.file import OtlpFileSpanExporter

logfire.configure(
    service_name="theirs",
    send_to_logfire=False,
    console=False,
    additional_span_processors=[SimpleSpanProcessor(OtlpFileSpanExporter())],
)
assert not isinstance(trace.get_tracer_provider(), TracerProvider)
"""


def test_spans_of_a_program_with_logfire_are_one_trace_with_its_own(tmp_path: Path) -> None:
    source = LOGFIRE + TRAIN + "with logfire.span('epoch'):\n    train()\n"
    said(run(tmp_path, source, **ENABLED, OTEL_TRACES_EXPORTER="none"))
    (root,) = traces(tmp_path)
    assert root.outline() == ["epoch", *(2 * ["  " + line for line in STEP])]
    assert {span.resource["service.name"] for span in root.walk()} == {"theirs"}
