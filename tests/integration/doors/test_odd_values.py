"""A value of OpenTelemetry's variables that nobody can read, set by whoever, costs no span and is named in a line.

The variables are those that the API and the SDK know here: one that a later version brings along is tried too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import opentelemetry.environment_variables as of_api
import opentelemetry.sdk.environment_variables as of_sdk
import pytest

from otel_torch_modules._standard_variables import read_standard
from tests.support.otlp_receivers import RECEIVERS
from tests.support.training_program import ENABLED, STEP, TRAIN, outlines, run

VARIABLES = sorted(
    value
    for module in (of_api, of_sdk)
    for name, value in vars(module).items()
    if name.lstrip("_").startswith("OTEL_") and isinstance(value, str)
)
ODD = ("", "abc", "-1", ",c=d")
OF_OTHERS = ("BLRP", "LOG", "PROMETHEUS", "ZIPKIN")  # that nobody reads here
UNSAID = ("OTEL_PROPAGATORS", "OTEL_PYTHON_CONTEXT")  # read once a process: below

# Each value in turn, as if a provider of ours were made in a process of its own. The last step of the way is a file's,
# so that nothing waits; how OTLP's own exporters are made is tried beside.
TRY_ALL = """
import json, logging, os, sys
from opentelemetry.sdk.resources import Resource
from otel_torch_modules import _odd_values
from otel_torch_modules._emission import global_providers, meter_provider, named, provider
from otel_torch_modules._standard_variables import is_of_metrics, read_standard

class Heard(logging.Handler):
    def emit(self, record):
        heard.append(self.format(record))

heard = []
logging.getLogger().addHandler(Heard())
own = dict(os.environ)
path = own["OTEL_TORCH_MODULES_FILE"]
for name, value in json.loads(sys.stdin.read()):
    os.environ[name] = value
    _odd_values._logged.clear()
    global_providers._usable.clear()
    heard.clear()
    if name == "OTEL_TRACES_EXPORTER":
        os.environ[name] = f"otlp_file,{value}"
    lazy = provider.LazyTracerProvider(on_found=lambda: None)
    lazy.resolve().get_tracer("test").start_span("sent").end()
    lazy.close()
    if is_of_metrics(name) or "METER" in name:
        of_metrics = meter_provider.LazyMeterProvider(lambda: Resource({}))
        of_metrics.peek()
        of_metrics.close()
    if "_OTLP_" in name:
        left = read_standard(os.environ).values
        both = {**left, "OTEL_TRACES_EXPORTER": "otlp_proto_grpc,otlp_proto_http"}
        made = named.trace_exporters(both)
        assert len(made) == 2
        for exporter in made:
            exporter.shutdown()
    arrived = open(path).read().count('"sent"')
    os.remove(path)
    print(json.dumps([name, value, arrived, heard]), flush=True)
    os.environ.pop(name)
    os.environ.update({name: own[name]} if name in own else {})
    assert dict(os.environ) == own
"""


class Tried(NamedTuple):
    name: str
    value: str
    arrived: int
    said: list[str]


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> list[Tried]:
    folder = tmp_path_factory.mktemp("odd")
    pairs = [
        (name, value)
        for name in VARIABLES
        if name not in UNSAID
        for value in (ODD[1:2] if any(other in name for other in OF_OTHERS) else ODD)
    ]
    pairs += [(name, "http://host:port") for name in VARIABLES if name.endswith("_ENDPOINT")]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", TRY_ALL],
        input=json.dumps(pairs),
        env={
            **kept,
            "OTEL_TRACES_EXPORTER": "otlp_file",
            "OTEL_METRICS_EXPORTER": "console",
            "OTEL_TORCH_MODULES_FILE": str(folder / "traces.jsonl"),
        },
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith('["OTEL_')]
    assert len(lines) == len(pairs)
    return [Tried(*json.loads(line)) for line in lines]


def test_no_value_costs_a_span(tried: list[Tried]) -> None:
    assert [one for one in tried if one.arrived != 1] == []


def test_what_does_not_count_is_one_line_that_names_the_variable(tried: list[Tried]) -> None:
    for one in tried:
        assert len(one.said) <= 1, one
        for line in one.said:
            assert line.startswith(one.name), one
            assert "\n" not in line, one
            assert "HEADERS" not in one.name or one.value not in line, one


def test_what_the_doctor_finds_is_said_by_a_run(tried: list[Tried]) -> None:
    alone = {
        (one.name, one.value): [odd.sentence for odd in read_standard({one.name: one.value}).odd]
        for one in tried
    }
    said = {
        (one.name, one.value): [line.removesuffix("; it is ignored") for line in one.said]
        for one in tried
    }
    missing = [pair for pair, sentences in alone.items() if sentences and said[pair] != sentences]
    assert missing == []
    assert sum(map(bool, alone.values())) > 80


@pytest.mark.parametrize("name", UNSAID)
def test_what_the_api_reads_when_it_is_imported_costs_no_span(tmp_path: Path, name: str) -> None:
    done = run(
        tmp_path,
        TRAIN + "train(3)",
        **ENABLED,
        **{name: "nowhere"},
        TRACEPARENT=f"00-{'1' * 32}-{'2' * 16}-01",
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert outlines(tmp_path) == [STEP] * 3
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{name}=nowhere is not installed; there are: ")


@pytest.mark.parametrize("protocol", RECEIVERS)
def test_odd_values_of_otlp_leave_the_defaults(tmp_path: Path, protocol: str) -> None:
    odd = {
        "OTEL_EXPORTER_OTLP_TIMEOUT": "abc",
        "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "abc",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "zstd",
        "OTEL_EXPORTER_OTLP_HEADERS": "team=red,s3cret",
        "OTEL_EXPORTER_OTLP_CERTIFICATE": "/nowhere",
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": "/nowhere",
        "OTEL_BSP_SCHEDULE_DELAY": "0",
        "OTEL_TRACES_SAMPLER": "sometimes",
        "OTEL_RESOURCE_ATTRIBUTES": "colour",
        **{name: "-1" for name in VARIABLES if name.endswith("_LIMIT") and "LOG" not in name},
    }
    changed = "set(before.items()) - set(os.environ.items())"
    source = f"import os\nbefore = dict(os.environ)\n{TRAIN}train(3)\nprint(*{changed})"
    with RECEIVERS[protocol]() as receiver:
        done = run(
            tmp_path,
            source,
            **ENABLED,
            **odd,
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            OTEL_TRACES_EXPORTER="OTLP, nonsense,",
        )
    assert (done.returncode, done.stdout) == (0, "\n")
    assert receiver.outlines() == [STEP] * 3
    assert {received.headers["team"] for received in receiver.received} == {"red"}
    named = [line.partition(":")[0].partition("=")[0] for line in done.stderr.splitlines()]
    assert sorted(named) == sorted([*odd, "OTEL_TRACES_EXPORTER"])
    assert "s3cret" not in done.stderr
