"""Which provider spans go to, and what one of ours is made of. Each program is a process of its own."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.trace import NoOpTracerProvider

from otel_torch_modules._emission.provider import LazyTracerProvider
from tests.support.otlp_receivers import grpc_receiver
from tests.support.training_program import said

Run = Callable[..., "subprocess.CompletedProcess[str]"]

FILE = {"OTEL_TRACES_EXPORTER": "otlp_file", "OTEL_TORCH_MODULES_FILE": "traces.jsonl"}

TWO_STEPS = """
from tests.support.steps_without_torch import Training
training = Training()
training.step(0)
training.step(1, spans=1)
"""


def exported(folder: Path) -> list[dict[str, Any]]:
    """Return what is in the file: one entry for each resource."""
    path = folder / "traces.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [entry for line in lines for entry in json.loads(line)["resourceSpans"]]


def names(folder: Path) -> list[str]:
    return [
        span["name"]
        for entry in exported(folder)
        for scope in entry["scopeSpans"]
        for span in scope["spans"]
    ]


def resource(folder: Path) -> dict[str, Any]:
    first = exported(folder)[0]["resource"]["attributes"]
    return {item["key"]: next(iter(item["value"].values())) for item in first}


def test_without_a_provider_one_is_made_and_serves_the_programs_own_tracers_too(
    run_program: Run, tmp_path: Path
) -> None:
    source = """
from opentelemetry import trace
from tests.support.steps_without_torch import Training
tracer = trace.get_tracer("program")
training = Training()
training.step(0)
training.flush(30)
training.step(1)
training.flush(30)
with tracer.start_as_current_span("mine"):
    pass
print(type(trace.get_tracer_provider()).__name__)
"""
    assert said(run_program(source, FILE)) == "ProxyTracerProvider\n"
    assert sorted(names(tmp_path)) == ["mine", "step 0", "step 1"]


@pytest.mark.parametrize(
    ("script", "arguments", "variables", "service"),
    [
        ("train.py", (), {}, "train"),
        ("pkg/train.py", ("-m", "pkg.train"), {}, "train"),
        ("pkg/__main__.py", ("-m", "pkg"), {}, "pkg"),
        ("pkg/__main__.py", ("pkg",), {}, "pkg"),
        ("train.py", ("-c", TWO_STEPS), {}, "python"),
        ("train.py", (), {"OTEL_SERVICE_NAME": "mine"}, "mine"),
        ("train.py", (), {"OTEL_RESOURCE_ATTRIBUTES": "service.name=mine"}, "mine"),
    ],
)
def test_the_service_is_named_after_the_script_unless_somebody_named_it(
    run_program: Run,
    tmp_path: Path,
    script: str,
    arguments: tuple[str, ...],
    variables: dict[str, str],
    service: str,
) -> None:
    said(run_program(TWO_STEPS, {**FILE, **variables}, script=script, arguments=arguments))
    assert resource(tmp_path)["service.name"] == service


def test_the_resource_tells_the_process_and_the_users_word_wins(
    run_program: Run, tmp_path: Path
) -> None:
    variables = {**FILE, "OTEL_RESOURCE_ATTRIBUTES": "host.name=here,team=red"}
    source = TWO_STEPS + "import os; print(os.getpid())"
    pid = said(run_program(source, variables)).strip()
    found = resource(tmp_path)
    instance = found.pop("service.instance.id")
    version = found.pop("torch.version")
    telemetry = {key for key in found if key.startswith("telemetry.sdk.")}
    assert {key: value for key, value in found.items() if key not in telemetry} == {
        "host.name": "here",
        "process.pid": pid,
        "service.name": "train",
        "team": "red",
    }
    assert len(instance) == 36
    assert version.startswith("2.")
    assert len(telemetry) == 3


def test_the_programs_own_provider_is_used_as_it_is_and_flushed_before_it_ends(
    run_program: Run, tmp_path: Path
) -> None:
    source = """
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from otel_torch_modules._emission.otlp.file import OtlpFileSpanExporter
from tests.support.steps_without_torch import Training
training = Training()
provider = TracerProvider(resource=Resource({"service.name": "theirs"}))
provider.add_span_processor(BatchSpanProcessor(OtlpFileSpanExporter()))
trace.set_tracer_provider(provider)
training.step(0)
training.step(1)
print(trace.get_tracer_provider() is provider)
"""
    assert said(run_program(source, FILE)) == "True\n"
    assert names(tmp_path) == ["step 0", "step 1"]
    assert resource(tmp_path) == {"service.name": "theirs"}


def test_a_provider_handed_in_is_used_and_the_global_one_left_alone(
    run_program: Run, tmp_path: Path
) -> None:
    source = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from otel_torch_modules._emission.otlp.file import OtlpFileSpanExporter
from tests.support.steps_without_torch import Training
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(OtlpFileSpanExporter()))
training = Training(provider)
training.step(0)
training.step(1)
print(type(trace.get_tracer_provider()).__name__)
"""
    assert said(run_program(source, FILE)) == "ProxyTracerProvider\n"
    assert names(tmp_path) == ["step 0", "step 1"]


@pytest.mark.parametrize(
    ("variables", "kept"),
    [
        ({"OTEL_TRACES_SAMPLER": "always_on"}, ["step 0", "span 0", "step 1"]),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, []),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}, []),
        ({"OTEL_SDK_DISABLED": "true"}, []),
        ({"OTEL_TRACES_EXPORTER": "none"}, []),
    ],
)
def test_sampling_and_switching_off_mean_what_they_mean_elsewhere(
    run_program: Run, tmp_path: Path, variables: dict[str, str], kept: list[str]
) -> None:
    said(run_program(TWO_STEPS, {**FILE, **variables}))
    assert names(tmp_path) == kept


def test_a_provider_that_the_program_sets_after_its_first_step_is_handed_over_to(
    run_program: Run, tmp_path: Path
) -> None:
    source = """
import os
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from otel_torch_modules._emission.otlp.file import OtlpFileSpanExporter
from tests.support.steps_without_torch import Training
early = trace.get_tracer("program")
training = Training()
training.step(0)
training.flush(30)
training.step(1)
training.flush(30)
outlasts = early.start_span("begun before")
with early.start_as_current_span("before"):
    pass
assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
os.environ["OTEL_TORCH_MODULES_FILE"] = "theirs.jsonl"
provider = TracerProvider(resource=Resource({"service.name": "theirs"}))
provider.add_span_processor(BatchSpanProcessor(OtlpFileSpanExporter()))
trace.set_tracer_provider(provider)
with early.start_as_current_span("after"):
    pass
outlasts.end()
for index in range(2, 5):
    training.step(index)
print(trace.get_tracer_provider() is provider)
"""
    assert said(run_program(source, FILE)) == "True\n"
    ours = set(names(tmp_path))
    (tmp_path / "theirs.jsonl").rename(tmp_path / "traces.jsonl")
    theirs = set(names(tmp_path))
    assert ours | theirs == {
        *(f"step {index}" for index in range(5)),
        *("begun before", "before", "after"),
    }
    assert {"step 0", "before", "begun before"} <= ours
    assert {"after", "step 2", "step 3", "step 4"} <= theirs
    assert not ours & theirs


def test_metrics_and_logs_of_the_program_are_not_set_up(run_program: Run) -> None:
    source = (
        TWO_STEPS
        + """
from opentelemetry import metrics, _logs
training.flush(30)
print(type(metrics.get_meter_provider()).__name__, type(_logs.get_logger_provider()).__name__)
"""
    )
    variables = {**FILE, "OTEL_METRICS_EXPORTER": "console", "OTEL_LOGS_EXPORTER": "console"}
    out = said(run_program(source, variables)).splitlines()
    assert out[0] == "_ProxyMeterProvider ProxyLoggerProvider"


def test_a_shortage_that_lasts_a_moment_costs_the_steps_of_that_moment(
    run_program: Run, tmp_path: Path
) -> None:
    source = """
import logging, os, resource, threading
from tests.support.steps_without_torch import Training
told = threading.Event()

class Telling(logging.StreamHandler):
    def emit(self, line):
        super().emit(line)
        told.set()

logging.getLogger().addHandler(Telling())
training = Training()
most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (3, most[1]))
training.step(0)
training.step(1)
assert told.wait(60)
resource.setrlimit(resource.RLIMIT_NOFILE, most)
while not os.path.exists("traces.jsonl"):
    training.step(2)
    training.flush(30)
"""
    done = run_program(source, FILE)
    first, over, last = done.stderr.splitlines()
    assert done.returncode == 0
    said_of = "No exporter could be set up: spans are lost until one can: OSError: "
    assert first.startswith(f"{said_of}[Errno 24] Too many open files")
    assert over == "Exporters could be set up: spans are sent from now on"
    sent = len(names(tmp_path))
    assert re.fullmatch(rf"\d+ steps recorded, {sent} sent: \d+ lost by OSError", last)
    assert sent


def test_where_grpc_would_end_the_process_steps_are_lost_and_it_is_tried_again(
    run_program: Run,
) -> None:
    source = """
import logging, os, resource, threading
from tests.support.steps_without_torch import Training
told, over = threading.Event(), threading.Event()

class Telling(logging.StreamHandler):
    def emit(self, line):
        super().emit(line)
        (over if told.is_set() else told).set()

logging.getLogger().addHandler(Telling())
training = Training()
most = resource.getrlimit(resource.RLIMIT_NOFILE)
free = os.dup(0)
os.close(free)
resource.setrlimit(resource.RLIMIT_NOFILE, (free + 4, most[1]))
training.step(0)
assert told.wait(60)
training.flush(30)
resource.setrlimit(resource.RLIMIT_NOFILE, most)
while not over.is_set():
    training.step(1)
    training.flush(30)
"""
    with grpc_receiver() as receiver:
        done = run_program(source, {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint})
        sent = len(receiver.outlines())
    first, over, last = done.stderr.splitlines()
    assert done.returncode == 0
    assert first.startswith(
        "No exporter could be set up: spans are lost until one can: ShortageError: "
        "[Errno 24] gRPC would end the process: [Errno 24] Too many open files"
    )
    assert over == "Exporters could be set up: spans are sent from now on"
    assert re.fullmatch(rf"\d+ steps recorded, {sent} sent: \d+ lost by ShortageError", last)
    assert sent


def test_a_provider_of_ours_is_set_up_as_the_variables_say(run_program: Run) -> None:
    source = """
from otel_torch_modules._emission.provider import LazyTracerProvider
lazy = LazyTracerProvider(on_found=lambda: None)
provider = lazy.resolve()
print(type(provider.id_generator).__name__)
for processor in provider._active_span_processor._span_processors:
    batch = getattr(processor, "_batch_processor", processor)
    delay = getattr(batch, "_schedule_delay_millis", None) or batch.schedule_delay_millis
    print(delay, type(processor.span_exporter).__name__)
lazy.close()
"""
    grpc = "UrandomIdGenerator\n1000 GrpcRequestExporter\n"
    assert said(run_program(source)) == grpc
    assert said(run_program(source, {"OTEL_TRACES_EXPORTER": ""})) == grpc
    variables = {
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_BSP_SCHEDULE_DELAY": "3000",
        "OTEL_PYTHON_ID_GENERATOR": "random",
    }
    http = "RandomIdGenerator\n3000 HttpRequestExporter\n"
    assert said(run_program(source, variables)) == http


def test_stopping_ends_all_threads_and_a_new_one_goes_on_with_the_same_provider(
    run_program: Run, tmp_path: Path
) -> None:
    source = """
import threading
from opentelemetry import trace
from tests.support.steps_without_torch import Training
providers = []
for index in range(2):
    training = Training()
    training.step(index)
    assert training.stop(30)
    providers.append(trace.get_tracer_provider())
    print([thread.name for thread in threading.enumerate()])
print(providers[0] is providers[1])
"""
    assert said(run_program(source, FILE)) == "['MainThread']\n['MainThread']\nTrue\n"
    assert names(tmp_path) == ["step 0", "step 1"]


def test_stopping_right_after_the_first_step_opened_leaves_no_thread(run_program: Run) -> None:
    source = """
import threading
from tests.support.steps_without_torch import Training
training = Training()
training.step(0)
training.held = None
assert training.stop(30)
print([thread.name for thread in threading.enumerate()])
"""
    assert said(run_program(source, FILE)) == "['MainThread']\n"


def test_a_forked_child_sends_its_own_steps_with_its_own_process_id(
    run_program: Run, tmp_path: Path
) -> None:
    source = """
import os, warnings
from tests.support.steps_without_torch import Training
warnings.simplefilter("ignore", DeprecationWarning)  # of a fork with threads
training = Training()
training.step(0)
training.step(1)
training.flush(30)
child = os.fork()
if child == 0:
    training.held = None
    training.step(2)
    training.stop(30)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
training.step(3)
print(os.getpid(), child)
"""
    parent, child = said(run_program(source, FILE)).split()
    by_process = [
        (
            next(a["value"] for a in entry["resource"]["attributes"] if a["key"] == "process.pid"),
            [span["name"] for scope in entry["scopeSpans"] for span in scope["spans"]],
        )
        for entry in exported(tmp_path)
    ]
    assert by_process == [
        ({"intValue": parent}, ["step 0"]),
        ({"intValue": child}, ["step 2"]),
        ({"intValue": parent}, ["step 1", "step 3"]),
    ]


def test_no_hook_of_the_programs_hears_that_sending_could_not_begin(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise RuntimeError("can't start new thread")

    heard: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", heard.append)
    provider = LazyTracerProvider(NoOpTracerProvider(), on_found=fail)
    provider.prepare()
    provider.wait(60)
    provider.close()
    assert heard == []
    assert caplog.messages == ["Sending could not begin; training goes on"]
