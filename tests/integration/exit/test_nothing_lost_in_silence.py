"""What a program recorded arrives, or it is said what did not and why: receivers that refuse, are silent or gone."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from tests.support.otlp_receivers import answering, grpc_receiver
from tests.support.side_by_side import side_by_side
from tests.support.training_program import (
    ENABLED,
    STEP,
    TIME_LIMIT,
    TRAIN,
    doctor,
    environment,
    outlines,
    run,
    said,
    traces,
    write,
)

NOWHERE = "Without a collector: OTEL_TRACES_EXPORTER=otlp_file, then otel-torch-modules view"

# As each step is another one, each costs the worker many times what it costs the training thread.
ALL_DIFFERENT = """
import torch
from torch import nn

torch.set_num_threads(1)
leaves = [nn.Identity() for _ in range(50)]

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.leaves = nn.ModuleList(leaves)
        self.fc = nn.Linear(4, 4)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        x = self.fc(x)
        with torch.no_grad():
            for call in range(CALLS):
                leaves[call * self.calls % 49](x)
        return x

model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(STEPS):
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
"""


def _otlp(endpoint: str, protocol: str = "grpc", **more: str) -> dict[str, str]:
    return {
        **ENABLED,
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        **more,
    }


def _port(endpoint: str) -> str:
    return endpoint.rpartition("/")[2]


@pytest.mark.parametrize(("steps", "calls"), [(70, 3_000), (2, 200_000)])
def test_all_of_a_large_backlog_arrives_at_exit(tmp_path: Path, steps: int, calls: int) -> None:
    program = ALL_DIFFERENT.replace("CALLS", str(calls)).replace("STEPS", str(steps))
    with grpc_receiver() as receiver:
        more = {"OTEL_TORCH_MODULES_MAX_SPANS_PER_STEP": "1000000"}
        assert said(run(tmp_path, program, **_otlp(receiver.endpoint, **more))) == ""
        counts: dict[bytes, int] = {}
        for received in receiver.received:
            for span in received.request.resource_spans[0].scope_spans[0].spans:
                if span.name != "between":  # as many as the machine makes long pauses
                    counts[span.trace_id] = counts.get(span.trace_id, 0) + 1
    # The step, `Net`, `fc` and the calls; backward, of `Net` and of `fc`; the optimizer.
    assert list(counts.values()) == [calls + 7] * steps


PROTOCOLS = ("grpc", "http/protobuf")


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("takes_connections", [False, True], ids=["closed port", "silent"])
def test_without_a_collector_one_line_says_what_to_do(
    tmp_path: Path, takes_connections: bool
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        if takes_connections:
            taken.listen(16)
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"

        def ended(folder: Path, protocol: str) -> tuple[int, str]:
            done = run(folder, f"{TRAIN}\ntrain(20)", **_otlp(endpoint, protocol))
            return done.returncode, done.stderr

        line = f"20 steps recorded, 0 sent: nothing answers at {_port(endpoint)}. {NOWHERE}\n"
        assert side_by_side(tmp_path, ended, PROTOCOLS) == dict.fromkeys(PROTOCOLS, (0, line))


REFUSALS = [
    ("http/protobuf", 400, "400"),
    ("http/protobuf", 413, "413"),
    ("http/protobuf", 500, "500"),
    ("grpc", grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT"),
    ("grpc", grpc.StatusCode.RESOURCE_EXHAUSTED, "RESOURCE_EXHAUSTED"),
]

METERED = f"""{TRAIN}
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from otel_torch_modules import TorchModuleInstrumentor
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
tracing = TorchModuleInstrumentor()._tracing
train(20)
tracing._engine.worker.flush(30)
train(1)
tracing._engine.worker.flush(30)
train(1)
print([
    (dict(point.attributes).get("error.type"), point.value)
    for of_resource in reader.get_metrics_data().resource_metrics
    for of_scope in of_resource.scope_metrics
    for metric in of_scope.metrics if metric.name.endswith("processed")
    for point in metric.data.data_points
])
"""


@pytest.mark.parametrize(("protocol", "status", "error"), REFUSALS)
def test_what_is_refused_is_counted_by_its_error(
    tmp_path: Path, protocol: str, status: object, error: str
) -> None:
    """The receiver refuses once and takes what comes later: the steps after it say what is missing before them."""
    fine = grpc.StatusCode.OK if protocol == "grpc" else 200
    answers = iter([status])
    with answering(protocol, lambda: next(answers, fine)) as receiver:
        # Also where each step has something of the program's, a link to what started it.
        more = {"TRACEPARENT": f"00-{7:032x}-{8:016x}-01"}
        done = run(tmp_path, METERED, **_otlp(receiver.endpoint, protocol, **more))
        steps = {root.attributes["torch.step"]: root.attributes for root in receiver.traces()}
    lost = 22 - len(steps)
    counted = dict(eval(done.stdout))
    assert counted[error] == lost > 0
    assert counted["queue_full"] == 0
    first, well, last = done.stderr.splitlines()
    assert re.fullmatch(r"Spans are sent again, \d+ s later; attempts that failed: 1", well)
    assert first.startswith(f"Spans are lost: {_port(receiver.endpoint)} answers {error}")
    assert last == f"22 steps recorded, {len(steps)} sent: {lost} lost by {error}"
    told = [attributes.get("torch.step.dropped") for attributes in steps.values()]
    assert list(filter(None, told)) == [lost]


def test_what_a_receiver_rejects_of_a_request_is_counted_and_said(
    tmp_path: Path, protocol: str
) -> None:
    """It does not say whose spans they were: all records of the request count as lost, none twice."""
    rejects = ExportTraceServiceResponse()
    rejects.partial_success.rejected_spans = 3
    rejects.partial_success.error_message = "too old"
    answers = iter([rejects])
    with answering(protocol, lambda: next(answers, ExportTraceServiceResponse())) as receiver:
        done = run(tmp_path, METERED, **_otlp(receiver.endpoint, protocol))
        assert len(receiver.traces()) == 22
    counted = dict(eval(done.stdout))
    lost = counted["partial_success"]
    assert lost > 0
    first, well, last = done.stderr.splitlines()
    place = re.escape(_port(receiver.endpoint))
    assert re.fullmatch(rf"Spans are lost: {place} rejects 3 of \d+ spans: too old", first)
    assert re.fullmatch(r"Spans are sent again, \d+ s later; attempts that failed: 1", well)
    assert last == f"22 steps recorded, {22 - lost} sent: {lost} lost by partial_success"


def test_what_may_be_tried_again_arrives_when_the_collector_is_back(
    tmp_path: Path, protocol: str
) -> None:
    again = grpc.StatusCode.UNAVAILABLE if protocol == "grpc" else 503
    fine = grpc.StatusCode.OK if protocol == "grpc" else 200
    answers = iter([again] * 3)
    with answering(protocol, lambda: next(answers, fine)) as receiver:
        program = f"{TRAIN}\nimport time\nfor _ in range(40):\n    train(5)\n    time.sleep(0.02)"
        assert said(run(tmp_path, program, **_otlp(receiver.endpoint, protocol))) == ""
        assert receiver.outlines() == [STEP] * 200


def test_a_collector_that_comes_up_late_gets_everything(tmp_path: Path, protocol: str) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    program = f"{TRAIN}\ntrain(20)\nprint(flush=True)\ninput()\ntrain(20)"
    with subprocess.Popen(
        [sys.executable, write(tmp_path, program)],
        env=environment(tmp_path, **_otlp(f"http://127.0.0.1:{port}", protocol)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        process.stdout.readline()
        status = grpc.StatusCode.OK if protocol == "grpc" else 200
        with answering(protocol, lambda: status, port=port) as receiver:
            _, errors = process.communicate("\n", timeout=TIME_LIMIT)
            assert (process.returncode, errors) == (0, "")
            assert receiver.outlines() == [STEP] * 40


def test_a_fifo_that_nobody_reads_does_not_hold_the_end_up(tmp_path: Path) -> None:
    fifo = tmp_path / "traces"
    os.mkfifo(fifo)
    done = run(tmp_path, f"{TRAIN}\ntrain(20)", **ENABLED, OTEL_TORCH_MODULES_FILE=str(fifo))
    assert done.returncode == 0
    assert done.stderr == (f"20 steps recorded, 0 sent: {fifo} takes nothing: the write hangs\n")


def test_a_silent_receiver_keeps_nothing_from_another_exporter(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(16)
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"

        def ended(folder: Path, protocol: str) -> tuple[int, list[list[str]]]:
            variables = {**_otlp(endpoint, protocol), "OTEL_TRACES_EXPORTER": "otlp,otlp_file"}
            file = variables["OTEL_TORCH_MODULES_FILE"] = str(folder / "all.jsonl")
            done = run(folder, f"{TRAIN}\ntrain(3)", **variables)
            sent = f"3 steps recorded, 0 sent to all of {_port(endpoint)}, {file}"
            assert done.stderr == f"{sent}: nothing answers at {_port(endpoint)}\n"
            return done.returncode, outlines(folder)

        whole = (0, [STEP] * 3)
        assert side_by_side(tmp_path, ended, PROTOCOLS) == dict.fromkeys(PROTOCOLS, whole)


def test_what_an_exit_handler_of_the_program_trains_arrives(tmp_path: Path) -> None:
    program = f"""{TRAIN}
import atexit
atexit.register(train, 3)
train(2)
atexit.register(train, 4)
"""
    assert said(run(tmp_path, program, **ENABLED)) == ""
    assert outlines(tmp_path) == [STEP] * 9


def is_whole(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:  # it may have been cut anywhere, behind a bracket too
        return False
    return True


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", place], check=True, capture_output=True
    )
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True, capture_output=True)


def test_a_disk_that_fills_loses_what_it_cannot_hold_and_goes_on_with_a_new_line(
    tmp_path: Path, small_disk: Path
) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(200 << 10))
    file = small_disk / "traces.jsonl"
    program = f"""{TRAIN}
import os
from otel_torch_modules import TorchModuleInstrumentor
tracing = TorchModuleInstrumentor()._tracing
for _ in range(10):
    train(20)
    tracing._engine.worker.flush(30)
os.unlink({str(ballast)!r})
train(20)
"""
    done = run(tmp_path, program, **ENABLED, OTEL_TORCH_MODULES_FILE=str(file))
    assert done.returncode == 0
    lines = file.read_bytes().split(b"\n")
    assert lines.pop() == b""
    whole = [line for line in lines if is_whole(line)]
    assert len(whole) == len(lines) - 1  # the one that was cut when the disk was full
    steps = sum(line.count(b'"name":"train.step"') for line in whole)
    first, *_, last = done.stderr.splitlines()
    assert first == f"Spans are lost: {file} cannot be written: No space left on device"
    assert last == f"220 steps recorded, {steps} sent: {220 - steps} lost by ENOSPC"
    examined = doctor(tmp_path, file)
    assert examined.returncode == 1
    assert re.search(rf"{file}: \d+ steps, [1-9]\d* dropped", examined.stdout)


def test_a_file_that_ends_within_a_line_is_gone_on_with_a_new_one(tmp_path: Path) -> None:
    file = tmp_path / "all.jsonl"
    file.write_text('{"resourceSpans":[{"resou')
    said(run(tmp_path, f"{TRAIN}\ntrain(2)", **ENABLED, OTEL_TORCH_MODULES_FILE=str(file)))
    torn, *whole = file.read_text().splitlines()
    assert torn == '{"resourceSpans":[{"resou'
    file.write_text("".join(f"{line}\n" for line in whole))
    assert [root.outline() for root in traces(tmp_path)] == [STEP] * 2


@pytest.mark.parametrize("gone", ["os.unlink(path)", "os.rename(path, path + '.1.jsonl')"])
def test_a_file_that_is_removed_or_renamed_is_made_anew(tmp_path: Path, gone: str) -> None:
    path = tmp_path / "all.jsonl"
    program = f"""{TRAIN}
import os
from otel_torch_modules import TorchModuleInstrumentor
tracing = TorchModuleInstrumentor()._tracing
path = {str(path)!r}
train(2)
tracing._engine.worker.flush(30)
{gone}
train(3)
"""
    said(run(tmp_path, program, **ENABLED, OTEL_TORCH_MODULES_FILE=str(path)))
    counts = {
        file.name: file.read_text().count('"train.step"') for file in tmp_path.glob("*.jsonl")
    }
    kept = {"all.jsonl.1.jsonl": counts.pop("all.jsonl.1.jsonl", None)}
    # The last of the two steps may have been handed over after the first flush.
    assert counts["all.jsonl"] in (3, 4)
    assert kept["all.jsonl.1.jsonl"] in ((None,) if "unlink" in gone else (1, 2))


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_a_file_of_traces_is_its_owners_alone(tmp_path: Path, umask: int) -> None:
    program = f"import os\nos.umask({umask})\n{TRAIN}\ntrain(1)"
    said(run(tmp_path, program, **ENABLED))
    (file,) = tmp_path.glob("*.jsonl")
    assert file.stat().st_mode & 0o777 == 0o600
