"""Spans parted between services, and steps by names of the user's choice, in a real Jaeger and in a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from otel_torch_modules.cli.main import main
from tests.support.backend_servers import Jaeger
from tests.support.jaeger_query import StoredSpan, count, poll
from tests.support.training_program import (
    ENABLED,
    STEP,
    TRAIN,
    run,
    said,
    traces,
    without_stretches,
)

pytestmark = pytest.mark.backend

SPANS = len(STEP)

# Calls of the program's own on a span of ours: it goes another way than the others.
NOTED = """
from opentelemetry import trace
model.act.register_forward_hook(lambda *_: trace.get_current_span().set_attribute("seen", True))
"""


def services(root: StoredSpan) -> list[tuple[str, str]]:
    """Return the name of each span of a tree, and its service."""
    return [(span.name, span.resource["service.name"]) for span in root.walk()]


def parted(name: str) -> list[tuple[str, str]]:
    """Return what `services` says of one step where each phase is a service."""
    return [
        (
            span.strip(),
            name if span == "train.step" else f"{name} · {span.split()[0].split('.')[0]}",
        )
        for span in STEP
    ]


@pytest.mark.parametrize("noted", ["", NOTED], ids=["ours alone", "the program's attributes"])
@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf", "file"])
def test_each_phase_is_a_service(tmp_path: Path, jaeger: Jaeger, protocol: str, noted: str) -> None:
    name = f"parted {protocol} {bool(noted)}"
    sends = {
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_ENDPOINT": (
            f"http://{jaeger.otlp_grpc}" if protocol == "grpc" else jaeger.otlp_http
        ),
    }
    done = run(
        tmp_path,
        f"{TRAIN}{noted}\ntrain(4)\n",
        **ENABLED,
        **({} if protocol == "file" else sends),
        OTEL_SERVICE_NAME=name,
        OTEL_TORCH_MODULES_SERVICES="phases",
    )
    assert said(done) == ""
    if protocol == "file":
        found = traces(tmp_path)
    else:
        found = poll(
            lambda: without_stretches(jaeger.query.traces(f"{name} · backward")),
            lambda roots: count(roots) >= 4 * SPANS,
            name,
        )
    assert [services(root) for root in found] == 4 * [parted(name)]


def test_each_rank_is_a_service(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        f"{TRAIN}\ntrain(1)\n",
        **ENABLED,
        OTEL_SERVICE_NAME="ranked",
        OTEL_TORCH_MODULES_SERVICES="ranks",
        RANK="3",
        WORLD_SIZE="8",
    )
    assert said(done) == ""
    (root,) = traces(tmp_path)
    assert {span.resource["service.name"] for span in root.walk()} == {"ranked · rank 3"}


def test_a_program_with_a_provider_of_its_own_keeps_its_service(tmp_path: Path) -> None:
    source = f"""
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from otel_torch_modules._emission.otlp.file import OtlpFileSpanExporter
provider = TracerProvider(resource=Resource({{"service.name": "theirs"}}))
provider.add_span_processor(SimpleSpanProcessor(OtlpFileSpanExporter()))
trace.set_tracer_provider(provider)
{TRAIN}
train(3)
"""
    assert said(run(tmp_path, source, **ENABLED, OTEL_TORCH_MODULES_SERVICES="phases")) == ""
    assert {span.resource["service.name"] for root in traces(tmp_path) for span in root.walk()} == {
        "theirs"
    }


@pytest.mark.parametrize(
    ("template", "names"),
    [
        ("train.step", 5 * ["train.step"]),
        ("train.step {step}", [f"train.step {step}" for step in range(5)]),
        ("fine-tuning", 5 * ["fine-tuning"]),
    ],
)
def test_steps_are_called_as_the_template_says_and_the_commands_know_them(
    tmp_path: Path, template: str, names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        said(
            run(tmp_path, f"{TRAIN}\ntrain(5)\n", **ENABLED, OTEL_TORCH_MODULES_STEP_NAME=template)
        )
        == ""
    )
    found = traces(tmp_path)
    assert [root.name for root in found] == names
    assert [root.attributes["torch.step"] for root in found] == [*range(5)]
    assert count(found) == 5 * SPANS
    (file,) = tmp_path.glob("*.jsonl")
    assert main(["why", str(file)]) == 0
    assert "5 steps" in capsys.readouterr().out
    assert main(["view", str(file), "--step", "3"]) == 0
    assert names[3] in capsys.readouterr().out
