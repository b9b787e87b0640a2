"""What the command line reads from a real Jaeger, and from a real collector's files, is what was sent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from torch import nn

from otel_torch_modules import TorchModuleInstrumentor
from otel_torch_modules._emission.otlp.file import OtlpFileSpanExporter
from otel_torch_modules._reading.query import Query
from otel_torch_modules._reading.traces import Traces
from otel_torch_modules.cli.main import main
from tests.support.backend_servers import Jaeger
from tests.support.jaeger_query import poll
from tests.unit.reading.test_formats import whole

pytestmark = pytest.mark.backend

STEPS = 12


@pytest.fixture(scope="module")
def spans() -> tuple[ReadableSpan, ...]:
    """The spans of a real training."""
    resource = Resource({"service.name": "answers", "service.instance.id": "one"})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    TorchModuleInstrumentor().instrument(tracer_provider=provider)
    try:
        model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for _ in range(STEPS):
            optimizer.zero_grad()
            model(torch.ones(2, 4)).sum().backward()
            optimizer.step()
    finally:
        TorchModuleInstrumentor().uninstrument()
    return exporter.get_finished_spans()


def test_of_jaeger_the_same_is_read_as_of_a_file(
    spans: tuple[ReadableSpan, ...],
    jaeger: Jaeger,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "traces.jsonl"
    exporter = OtlpFileSpanExporter(str(file))
    exporter.export(spans)
    exporter.shutdown()
    OTLPSpanExporter(f"{jaeger.otlp_http}/v1/traces").export(spans)
    source = f"jaeger={jaeger.url}"
    jaeger.query.wait_for_traces("answers", len(spans))
    expected = Traces.read(file)
    assert len(expected.steps) == STEPS
    read = poll(
        lambda: [Traces.read(source, query=Query("answers"))],
        lambda found: len(found[0].steps) == STEPS,
        "all steps",
    )[0]
    assert [*map(whole, read.steps)] == [*map(whole, expected.steps)]
    assert list(read.losses()) == []
    capsys.readouterr()
    assert main(["why", source, "--service", "answers", "--since", "2h"]) == 0
    assert capsys.readouterr().out.startswith(f"{STEPS} steps · 1 rank · Sequential, ")
    # Fewer than there are: what the limit cut off is said.
    assert main(["view", "--list", source, "--service", "answers", "--limit", "5"]) == 0
    assert "the search ended at its limit of 5 traces" in capsys.readouterr().out
    assert main(["why", source, "--service", "answers", "--run", "no such run"]) == 2
    assert "has no trace of answers, run no such run, since then" in capsys.readouterr().err


HANGS = """
import sys, pathlib, torch

go_on = pathlib.Path(sys.argv[1])

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(2, 2)
    def forward(self, x):
        while step == 2 and not go_on.exists():
            pass
        return self.inner(x)

model = Net()
sgd = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(3):
    model(torch.ones(1, 2)).sum().backward()
    sgd.step()
"""


def test_where_a_job_stands_is_told_from_jaeger_while_it_stands(
    jaeger: Jaeger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program, go_on = tmp_path / "train.py", tmp_path / "go_on"
    program.write_text(HANGS)
    environ = {
        **os.environ,
        "OTEL_TORCH_MODULES_ENABLED": "true",
        "OTEL_TORCH_MODULES_STALL_TIMEOUT": "0.5",
        "OTEL_SERVICE_NAME": "standing",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_ENDPOINT": jaeger.otlp_http,
    }

    def told() -> list[str]:
        main(["stalls", f"jaeger={jaeger.url}", "--service", "standing"])
        return capsys.readouterr().out.splitlines()

    with subprocess.Popen([sys.executable, str(program), str(go_on)], env=environ) as job:
        try:
            said = poll(told, bool, "stall")
        finally:
            go_on.touch()
    assert job.returncode == 0
    assert "forward Net; train.py:18 → train.py:11" in " ".join(said)
    assert "The process is in forward Net" in " ".join(said)
