"""The doors of the program itself: the instrumentor and the region; and all doors together."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace import TracerProvider

from otel_torch_modules import Config, TorchModuleInstrumentor, trace
from tests.support.training_program import ENABLED, STEP, TRAIN, outlines, run, said

INSTRUMENT = "from otel_torch_modules import TorchModuleInstrumentor\nTorchModuleInstrumentor()"
NET_ALONE = [
    "train.step",
    "  forward Net",
    "  backward",
    "    backward Net",
    "  optimizer.step SGD",
]
ALREADY = "Attempting to instrument while already instrumented\n"


def test_the_instrumentor_traces_from_one_call_to_the_other(tmp_path: Path) -> None:
    source = f"""{TRAIN}
train(1)
{INSTRUMENT}.instrument()
train(2)
TorchModuleInstrumentor().uninstrument()
train(1)
TorchModuleInstrumentor().instrument()
train(1)
"""
    said(run(tmp_path, source))
    assert outlines(tmp_path) == [STEP] * 3


def test_the_instrumentor_waits_for_torch(tmp_path: Path) -> None:
    source = f"import sys\n{INSTRUMENT}.instrument()\nprint('torch' in sys.modules)\n{TRAIN}"
    assert said(run(tmp_path, source + "train()")) == "False\n"
    assert outlines(tmp_path) == [STEP, STEP]


def test_an_instrumentor_that_is_taken_off_before_torch_comes_does_nothing(tmp_path: Path) -> None:
    source = f"{INSTRUMENT}.instrument()\nTorchModuleInstrumentor().uninstrument()\n{TRAIN}train()"
    said(run(tmp_path, source))
    assert outlines(tmp_path) == []


def test_a_region_is_traced_and_no_more(tmp_path: Path) -> None:
    source = f"""{TRAIN}
import otel_torch_modules
train(1)
with otel_torch_modules.trace(config=otel_torch_modules.Config(max_depth=1, causes=())):
    train(1)
    with otel_torch_modules.trace():
        train(1)
train(1)
"""
    said(run(tmp_path, source))
    assert outlines(tmp_path) == [NET_ALONE, NET_ALONE]


def test_a_region_that_an_exception_leaves_is_closed(tmp_path: Path) -> None:
    source = f"""{TRAIN}
import otel_torch_modules
try:
    with otel_torch_modules.trace():
        train(1)
        raise KeyError("end")
except KeyError:
    train(1)
"""
    said(run(tmp_path, source))
    assert outlines(tmp_path) == [STEP]


def test_all_doors_together_trace_once(tmp_path: Path) -> None:
    source = f"""{TRAIN}
import otel_torch_modules
{INSTRUMENT}.instrument()
with otel_torch_modules.trace():
    train(1)
train(1)
"""
    done = run(tmp_path, source, **ENABLED)
    assert (done.returncode, done.stderr) == (0, ALREADY)
    assert outlines(tmp_path) == [STEP, STEP]


def test_the_variable_does_nothing_where_the_program_has_opened_a_door(tmp_path: Path) -> None:
    source = f"""
from otel_torch_modules import Config
{INSTRUMENT}.instrument(config=Config(exclude=("Linear", "ReLU"), causes=()))
{TRAIN}
train(1)
"""
    said(run(tmp_path, source, **ENABLED))
    assert outlines(tmp_path) == [NET_ALONE]


@pytest.mark.parametrize("value", ["false", "yes"])
def test_the_variable_is_a_door_and_no_lock(tmp_path: Path, value: str) -> None:
    source = f"{INSTRUMENT}.instrument()\n{TRAIN}train()"
    said(run(tmp_path, source, OTEL_TORCH_MODULES_ENABLED=value))
    assert outlines(tmp_path) == [STEP, STEP]


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("config", {"max_depth": 1}, "a Config"),
        ("config", Config, "a Config"),
        ("tracer_provider", "x", "a TracerProvider"),
        ("tracer_provider", TracerProvider, "a TracerProvider"),
        ("tracer_provider", TracerProvider().get_tracer("x"), "a TracerProvider"),
    ],
)
def test_a_bad_argument_is_a_value_error_and_nothing_is_put_on(
    name: str, value: Any, allowed: str
) -> None:
    message = re.escape(f"{name}: {value!r} is not allowed; it must be {allowed}")
    with pytest.raises(ValueError, match=f"^{message}$"):
        TorchModuleInstrumentor().instrument(**{name: value})
    with pytest.raises(ValueError, match=f"^{message}$"), trace(**{name: value}):
        pass
    assert not TorchModuleInstrumentor().is_instrumented_by_opentelemetry


def test_an_argument_that_changes_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    others = {"meter_provider": NoOpMeterProvider(), "logger_provider": None, "confg": Config()}
    try:
        TorchModuleInstrumentor().instrument(skip_dep_check=True, **others)
    finally:
        TorchModuleInstrumentor().uninstrument()
    taken = "changes nothing: it takes config and tracer_provider"
    assert caplog.messages == [
        f"instrument(confg=…) {taken}",
        f"instrument(meter_provider=…) {taken}; metrics go to the global meter provider",
    ]


def test_a_bad_configuration_is_a_value_error_and_nothing_is_put_on() -> None:
    with pytest.raises(ValueError, match="OTEL_TORCH_MODULES_MAX_DEPTH: 0 is not allowed"):
        TorchModuleInstrumentor().instrument(config=Config(max_depth=0))
    assert not TorchModuleInstrumentor().is_instrumented_by_opentelemetry
