"""What the program's own code raises in a thread of ours costs at most the step that it strikes, never the thread.

A log handler that exits, as it is told to on an error, exits the program where the program logs; so it does no more.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.plugins import NAME, write_plugin
from tests.support.side_by_side import side_by_side
from tests.support.training_program import ENABLED, STEP, TRAIN, outlines, run

RAISED = ["SystemExit(1)", "KeyboardInterrupt()", "asyncio.CancelledError()"]

# Raises once, where a thread of ours comes by.
ONCE = """
import asyncio, threading
left = [True]

def strike():
    if left and threading.current_thread().name.startswith("otel-torch-modules"):
        left.pop()
        raise {error}
"""
PROVIDER = """
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler
from otel_torch_modules._emission.otlp.file import OtlpFileSpanExporter

class Base(TracerProvider):
    def force_flush(self, *_):
        self.flushed = True
        return super().force_flush()

class Quiet(SpanProcessor):
    pass

class Sampling(Sampler):
    def should_sample(self, *given, **more):
        return ALWAYS_ON.should_sample(*given, **more)
    def get_description(self):
        return "all"

{part}
provider = Provider(sampler=Chosen(), id_generator=Ids())
provider.add_span_processor(Processor())
provider.add_span_processor(SimpleSpanProcessor(OtlpFileSpanExporter()))
trace.set_tracer_provider(provider)
train(5)
"""
NOTHING = {
    "Provider": "Base",
    "Chosen": "Sampling",
    "Ids": "RandomIdGenerator",
    "Processor": "Quiet",
}
PARTS = {
    "on_start": ("Processor", "on_start"),
    "on_end": ("Processor", "on_end"),
    "force_flush": ("Provider", "force_flush"),
    "an id": ("Ids", "generate_span_id"),
}


def program(part: str, error: str) -> str:
    name, method = PARTS[part]
    classes = [f"{one} = {base}" for one, base in NOTHING.items() if one != name]
    strikes = (
        f"class {name}({NOTHING[name]}):\n"
        f"    def {method}(self, *given, **more):\n"
        f"        strike()\n"
        f"        return super().{method}(*given, **more)\n"
    )
    return TRAIN + ONCE.format(error=error) + PROVIDER.format(part="\n".join([*classes, strikes]))


@pytest.mark.parametrize("error", RAISED)
def test_what_a_part_of_its_provider_raises_costs_one_step(tmp_path: Path, error: str) -> None:
    def trained(folder: Path, part: str) -> tuple[int, int, str]:
        done = run(folder, program(part, error), **ENABLED)
        return done.returncode, outlines(folder).count(STEP), done.stderr

    name = error.rpartition(".")[2].removesuffix(")").partition("(")[0]
    for part, (code, whole, complaints) in side_by_side(tmp_path, trained, PARTS).items():
        assert code == 0, (part, complaints)
        assert "Exception in thread" not in complaints, part
        assert complaints.count("Traceback") == 1, (part, complaints)
        if part == "force_flush":
            assert whole == 5
        else:
            assert whole == 4, (part, complaints)
            last = complaints.splitlines()[-1]
            assert last == f"5 steps recorded, 4 sent: 1 lost by {name}"


LOG = """
import logging, os, threading
told = threading.Event()

class Exits(logging.Handler):
    def emit(self, line):
        told.set()
        strike()

logging.getLogger().addHandler(Exits())
train(1)
assert told.wait(60)
os.remove("folder")
train(3)
"""


@pytest.mark.parametrize("error", RAISED)
def test_what_a_handler_of_its_log_raises_costs_no_step(tmp_path: Path, error: str) -> None:
    (tmp_path / "folder").touch()  # no file can be made in it
    file = tmp_path / "folder" / "traces.jsonl"
    source = TRAIN + ONCE.format(error=error) + LOG
    done = run(tmp_path, source, **ENABLED, OTEL_TORCH_MODULES_FILE=str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert outlines(file.parent).count(STEP) == 3


METRICS = (
    ONCE
    + """
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter

class make(ConsoleMetricExporter):
    def export(self, *given, **more):
        strike()
        return super().export(*given, **more)
"""
)


@pytest.mark.parametrize("error", RAISED)
def test_what_its_exporter_of_metrics_raises_costs_what_was_read_then(
    tmp_path: Path, error: str
) -> None:
    plugin = write_plugin(
        tmp_path / "plugins", ["opentelemetry_metrics_exporter"], METRICS.format(error=error)
    )
    often = {"OTEL_METRICS_EXPORTER": NAME, "OTEL_METRIC_EXPORT_INTERVAL": "10"}
    source = (
        f"{TRAIN}train(1)\nimport acme_telemetry\nwhile acme_telemetry.left: train(1)\ntrain(1)"
    )
    done = run(tmp_path, source, **ENABLED, **often, **plugin)
    assert done.returncode == 0
    assert '"torch.steps"' in done.stdout
    assert re.search("^Metrics of training are not sent: ", done.stderr, re.MULTILINE)
    assert "Metrics of training are sent again" in done.stderr
    assert "Exception in thread" not in done.stderr
