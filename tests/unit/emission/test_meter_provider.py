"""Where metrics of training go, and what a program's output shows of that. Each program is a process of its own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.backend_programs import free_ports
from tests.support.training_program import said

Run = Callable[..., "subprocess.CompletedProcess[str]"]

TRACES = {"OTEL_TRACES_EXPORTER": "otlp_file", "OTEL_TORCH_MODULES_FILE": "traces.jsonl"}
CONSOLE = {**TRACES, "OTEL_METRICS_EXPORTER": "console"}

TRAIN = """
from tests.support.steps_without_torch import Training
training = Training()
for index in range(3):
    training.step(index)
"""


def points(said: str) -> dict[str, list[Any]]:
    """Return what the console exporter has written last of each metric: the values of its points."""
    decoder, found = json.JSONDecoder(), {}
    while said := said.lstrip():
        data, place = decoder.raw_decode(said)
        said = said[place:]
        for metric in (
            metric
            for of_resource in data["resource_metrics"]
            for of_scope in of_resource["scope_metrics"]
            for metric in of_scope["metrics"]
        ):
            found[metric["name"]] = [
                point["value"] if "value" in point else point["count"]
                for point in metric["data"]["data_points"]
            ]
    return found


@pytest.mark.parametrize(
    "variables",
    [{}, {"OTEL_METRICS_EXPORTER": ""}, {"OTEL_METRICS_EXPORTER": "none"}],
    ids=["unset", "empty", "none"],
)
def test_without_an_exporter_named_no_metrics_are_made(
    run_program: Run, variables: dict[str, str]
) -> None:
    source = f"{TRAIN}\ntraining.stop(30)\nimport threading\nprint(threading.enumerate())"
    out = said(run_program(source, {**TRACES, **variables}))
    assert "metrics" not in out


def test_one_of_ours_tells_of_every_step_and_of_what_became_of_it(run_program: Run) -> None:
    found = points(said(run_program(TRAIN, CONSOLE)))
    age = found.pop("torch.step.age")
    assert len(age) == 1
    assert found == {
        "torch.steps": [3],
        "torch.step.duration": [3],
        "torch.step.index": [2],
        "torch.sdk.processor.step.processed": [3, 0],
        "torch.sdk.processor.step.queue.size": [0],
        "torch.sdk.processor.step.queue.capacity": [64 << 20],
    }


def test_the_programs_own_is_used_whenever_it_comes(run_program: Run) -> None:
    source = f"""
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader
{TRAIN}
training.flush(30)
import sys
metrics.set_meter_provider(
    MeterProvider([PeriodicExportingMetricReader(ConsoleMetricExporter(out=sys.stderr))])
)
training.step(3)
training.step(4)
training.flush(30)
"""
    done = run_program(source, CONSOLE)
    assert done.returncode == 0
    ours, theirs = points(done.stdout), points(done.stderr)
    assert (ours["torch.steps"], theirs["torch.steps"]) == ([2], [2])


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_receiver_that_is_not_there_is_named_once_and_holds_nothing_up(
    run_program: Run, protocol: str
) -> None:
    (port,) = free_ports(1)
    done = run_program(
        TRAIN,
        {
            **TRACES,
            "OTEL_METRICS_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": protocol,
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        },
    )
    assert done.returncode == 0
    assert done.stderr == (
        f"Metrics of training are not sent: nothing answers at 127.0.0.1:{port}\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("traces", ["otlp_file", "otlp"])
def test_a_receiver_that_takes_nothing_keeps_the_last_metrics_from_no_other(
    run_program: Run, dead_endpoint: str, protocol: str, traces: str
) -> None:
    done = run_program(
        TRAIN,
        {
            **TRACES,
            "OTEL_TRACES_EXPORTER": traces,
            "OTEL_METRICS_EXPORTER": "otlp,console",
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_EXPORTER_OTLP_ENDPOINT": dead_endpoint,
        },
    )
    assert done.returncode == 0
    assert points(done.stdout)["torch.steps"] == [3]
    nothing = f"nothing answers at {dead_endpoint.removeprefix('http://')}"
    *of_traces, of_metrics = done.stderr.splitlines()
    assert of_metrics == f"Metrics of training are not sent: {nothing}"
    assert [nothing in line for line in of_traces] == [True] * (traces == "otlp")


def test_a_forked_child_sends_nothing_of_its_parents_and_its_own_steps(run_program: Run) -> None:
    source = f"""
import os, sys, warnings
{TRAIN}
training.flush(30)
sys.stdout.flush()
warnings.simplefilter("ignore", DeprecationWarning)  # Python's own, of a process with threads that forks
child = os.fork()
if child == 0:
    training.held = None
    for index in range(10, 10 + int(os.environ["STEPS"])):
        training.step(index)
    training.stop(30)
    sys.stdout.flush()
    os._exit(0)
os.waitpid(child, 0)
os._exit(0)
"""
    idle = said(run_program(source, {**CONSOLE, "STEPS": "0"}))
    assert idle == ""
    found = points(said(run_program(source, {**CONSOLE, "STEPS": "2"})))
    assert (found["torch.steps"], found["torch.step.index"]) == ([2], [11])


def test_an_exporter_that_cannot_be_made_costs_no_spans(run_program: Run) -> None:
    done = run_program(TRAIN, {**TRACES, "OTEL_METRICS_EXPORTER": "nowhere"})
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == (
        "OTEL_METRICS_EXPORTER=nowhere is not installed; there are: "
        "console, otlp, otlp_proto_grpc, otlp_proto_http; it is ignored\n"
    )
