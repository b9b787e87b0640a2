"""The demo as a user runs it: a subprocess, tracing by environment variable alone."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_torch_modules import semconv
from otel_torch_modules._reading.traces import Traces
from otel_torch_modules._trace import Span
from tests.support.served import served

SCRIPT = Path(__file__).parents[2] / "otel_torch_modules" / "examples" / "train_gpt.py"
SMALL = ("--batch-size", "2", "--width", "32")


class Receiver(ThreadingHTTPServer):
    """Takes OTLP over HTTP and keeps the ids of the steps' traces."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.trace_ids: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        request = ExportTraceServiceRequest.FromString(body)
        self.server.trace_ids += [
            span.trace_id.hex()
            for of_resource in request.resource_spans
            for of_scope in of_resource.scope_spans
            for span in of_scope.spans
            if span.name == "train.step"
        ]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Print nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    with served(server):
        yield server


def environment(**variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    # Causes come and go with what the machine does.
    return {**kept, "COLUMNS": "100", "OTEL_TORCH_MODULES_CAUSES": "none", **variables}


def run_demo(folder: Path, **variables: str) -> list[str]:
    script = "import sys; from otel_torch_modules.cli.main import main; sys.exit(main())"
    process = subprocess.run(
        [sys.executable, "-c", script, "demo", "--steps", "3", "--folder", str(folder)],
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (process.returncode, process.stderr) == (0, "")
    return process.stdout.splitlines()


def forward(phase: str, label: str, children: tuple[str, ...] = ()) -> list[str]:
    return [f"{phase} {label}", *(f"  {phase} {child}" for child in children)]


def indent(lines: list[str], levels: int = 1) -> list[str]:
    return ["  " * levels + line for line in lines]


def block(phase: str, number: int) -> list[str]:
    return [
        f"{phase} h.{number}",
        *indent(
            [
                *forward(phase, "ln_1"),
                *forward(phase, "attn", ("c_attn", "c_proj")),
                *forward(phase, "ln_2"),
                *forward(phase, "mlp", ("c_fc", "gelu", "c_proj")),
            ]
        ),
    ]


def backward_block(number: int) -> list[str]:
    recompute = block("recompute", number) if number == 3 else []
    return [
        f"backward h.{number}",
        *indent(
            [
                *recompute,
                *forward("backward", "mlp", ("c_proj", "gelu", "c_fc")),
                *forward("backward", "ln_2"),
                *forward("backward", "attn", ("c_proj", "c_attn")),
                *forward("backward", "ln_1"),
            ]
        ),
    ]


MICRO_BATCH = [
    "dataloader.next",
    "forward GPT",
    *indent(
        [
            "forward wte",
            "forward wpe",
            "forward drop",
            *(line for number in range(4) for line in block("forward", number)),
            "forward ln_f",
            "forward lm_head",
        ]
    ),
    "backward",
    "  backward GPT",
    *indent(
        [
            "backward lm_head",
            "backward ln_f",
            *(line for number in (3, 2, 1, 0) for line in backward_block(number)),
            "backward drop",
            "backward wpe",
            "backward wte",
        ],
        2,
    ),
]
STEP = ["train.step", *indent([*MICRO_BATCH, *MICRO_BATCH, "optimizer.step AdamW"])]


def outline(span: Span) -> list[str]:
    # The stretches between phases are the machine's doing.
    children = [child for child in span.children if child.phase != semconv.PHASE_BETWEEN]
    return [span.name, *indent([line for child in children for line in outline(child)])]


def services(file: Path) -> set[str]:
    """Return the names of the services in a file of traces."""
    return {
        attribute["value"]["stringValue"]
        for line in file.read_text(encoding="utf-8").splitlines()
        for of_resource in json.loads(line)["resourceSpans"]
        for attribute in of_resource["resource"]["attributes"]
        if attribute["key"] == "service.name"
    }


def test_every_step_is_one_whole_tree_on_screen_and_in_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "two words"
    folder.mkdir()
    file = folder / "demo.jsonl"
    file.write_text("of an earlier run\n", encoding="utf-8")
    lines = run_demo(folder)
    steps = Traces.read(file).steps
    assert [step.step for step in steps] == [0, 1, 2]
    for step in steps:
        assert outline(step) == STEP
    assert services(file) == {"train_gpt"}
    assert lines[0] == "OTEL_TORCH_MODULES_ENABLED=true OTEL_TRACES_EXPORTER=otlp_file \\"
    assert lines[1] == f"  OTEL_TORCH_MODULES_FILE='{file}' \\"
    assert lines[2].endswith(f" {os.path.relpath(SCRIPT)} --steps 3")
    shown = lines.index("") + 1
    assert lines[shown].startswith("3 steps  ")
    columns = lines[shown + 1].split()
    assert (columns[:2], "forward" in columns) == (
        ["step", "ms"],
        True,
    )  # what took next to nothing has none
    assert lines[shown + 2].split()[0] == "usual"
    tree = lines.index("", shown) + 1
    usual = sorted(steps, key=lambda step: step.duration)
    assert lines[tree] in {
        f"The usual step: step {step.step}, trace {step.trace_id}" for step in usual[:2]
    }
    assert lines[tree + 2].startswith("train.step ")
    verdict = lines.index("", tree) + 1
    assert " of a step. The 4 blocks' " in lines[verdict]
    assert lines[-3] == ""
    assert lines[-2].endswith(f"why '{file}'")
    assert lines[-1].endswith(f"view '{file}' --step N")


def test_with_an_endpoint_it_sends_there_and_names_the_slowest_step(
    tmp_path: Path, receiver: Receiver
) -> None:
    lines = run_demo(
        tmp_path,
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
        OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
        JAEGER_UI_URL="http://localhost:16686/",
    )
    steps = Traces.read(tmp_path / "demo.jsonl").steps
    assert receiver.trace_ids == [step.trace_id for step in steps]
    slowest = max(steps, key=lambda step: step.duration).trace_id
    assert lines[-2:] == [
        f"Sent to {receiver.url}. The slowest step is trace {slowest}",
        f"http://localhost:16686/trace/{slowest}",
    ]


def test_losses_are_bit_for_bit_those_of_an_untraced_run(tmp_path: Path) -> None:
    traced = {
        "OTEL_TORCH_MODULES_ENABLED": "true",
        "OTEL_TRACES_EXPORTER": "otlp_file",
        "OTEL_TORCH_MODULES_FILE": str(tmp_path / "traces.jsonl"),
    }
    losses = []
    for name, variables in (("untraced", {}), ("traced", traced)):
        file = tmp_path / name
        subprocess.run(
            [sys.executable, str(SCRIPT), "--steps", "20", *SMALL, "--losses", str(file)],
            env=environment(**variables),
            stdout=subprocess.DEVNULL,
            check=True,
        )
        losses.append(file.read_text(encoding="utf-8").splitlines())
    assert len(losses[0]) == 20
    assert losses[1] == losses[0]
    assert len(Traces.read(tmp_path / "traces.jsonl").steps) == 20


def test_the_script_knows_nothing_of_tracing() -> None:
    code = SCRIPT.read_text(encoding="utf-8").split('"""', 2)[2]
    assert "otel" not in code.lower()
