"""A program that has set up tracing itself: its provider is used as it is, and its spans and ours are one trace."""

from __future__ import annotations

from pathlib import Path

from tests.support.jaeger_query import StoredSpan
from tests.support.side_by_side import side_by_side
from tests.support.training_program import ENABLED, STEP, TRAIN, run, said, traces

PROVIDER = """
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from otel_torch_modules._emission.otlp.file import OtlpFileSpanExporter

provider = TracerProvider(resource=Resource({"service.name": "theirs"}))
provider.add_span_processor(BatchSpanProcessor(OtlpFileSpanExporter()))
trace.set_tracer_provider(provider)
"""
EPOCH = """
tracer = trace.get_tracer("theirs")
with tracer.start_as_current_span("epoch"):
    for _ in range(2):
        output = model(torch.ones(2, 4))
        with tracer.start_as_current_span("loss"):
            loss = output.sum()
        loss.backward()
        optimizer.step()
    with tracer.start_as_current_span("save"):
        pass
print(trace.get_tracer_provider() is provider)
"""
EPOCH_WITH_STEPS = [
    "epoch",
    *(2 * ["  " + line for line in [*STEP[:4], "  loss", *STEP[4:]]]),
    "  save",
]


SOURCES = {
    "set before torch": PROVIDER + TRAIN + EPOCH,
    "set before the first step": TRAIN + PROVIDER + EPOCH,
}


def test_its_spans_and_ours_are_one_trace(tmp_path: Path) -> None:
    def trained(folder: Path, name: str) -> StoredSpan:
        done = run(folder, SOURCES[name], **ENABLED, OTEL_SERVICE_NAME="of the variable")
        assert said(done) == "True\n", name
        (root,) = traces(folder)
        return root

    for root in side_by_side(tmp_path, trained, SOURCES).values():
        assert root.outline() == EPOCH_WITH_STEPS
        assert {span.resource["service.name"] for span in root.walk()} == {"theirs"}
        assert {span.name: span.scope for span in root.walk() if span.scope == "theirs"} == {
            "epoch": "theirs",
            "loss": "theirs",
            "save": "theirs",
        }


def test_a_provider_handed_to_the_instrumentor_is_used_and_no_other(tmp_path: Path) -> None:
    source = f"""{TRAIN}{PROVIDER.replace("trace.set_tracer_provider(provider)", "")}
from otel_torch_modules import TorchModuleInstrumentor
TorchModuleInstrumentor().instrument(tracer_provider=provider)
train()
print(type(trace.get_tracer_provider()).__name__)
"""
    assert said(run(tmp_path, source)) == "ProxyTracerProvider\n"
    assert [(root.outline(), root.resource) for root in traces(tmp_path)] == [
        (STEP, {"service.name": "theirs"})
    ] * 2
