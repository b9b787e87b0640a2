"""The door of OpenTelemetry's own command, which sets up the SDK itself."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support.side_by_side import side_by_side
from tests.support.training_program import BIN, ENABLED, STEP, TRAIN, outlines, run, said

COMMAND = (str(BIN / "opentelemetry-instrument"), sys.executable, "train.py")
TRACES_ONLY = {"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}


def test_every_step_is_one_trace(tmp_path: Path) -> None:
    """Alone, and with the variable that would trace the program too."""

    def traced(folder: Path, both: bool) -> list[list[str]]:
        source = f"""{TRAIN}
train()
from opentelemetry import trace
print(type(trace.get_tracer_provider()).__module__)
"""
        variables = {**TRACES_ONLY, **(ENABLED if both else {})}
        done = run(folder, source, command=COMMAND, **variables)
        assert said(done) == "opentelemetry.sdk.trace\n"
        return outlines(folder)

    assert side_by_side(tmp_path, traced, [False, True]) == {
        False: [STEP, STEP],
        True: [STEP, STEP],
    }


def test_a_program_without_torch_stays_without_it(tmp_path: Path) -> None:
    source = """
import sys
print("torch" in sys.modules)
print(*sorted({name.split(".")[1] for name in sys.modules if name.startswith("otel_torch_modules.")}))
"""
    assert said(run(tmp_path, source, command=COMMAND, **TRACES_ONLY)) == (
        "False\n"
        "_allowed _base_instrumentor _emission _engine _entry_points _events _greenlets _heard_already _interruption "
        "_log _misspelt _odd_values _option_texts _otlp_values _own_descriptor _own_thread _printable _records "
        "_secrets _site _stack_trace _standard_variables _texts _undisturbed _until_torch _varint _weak_table config "
        "environment_variables instrumentor keep ranks schedule semconv\n"
    )


def test_it_is_switched_off_as_any_instrumentation_is(tmp_path: Path) -> None:
    off = {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "torch_modules"}
    said(run(tmp_path, TRAIN + "train()", command=COMMAND, **TRACES_ONLY, **off))
    assert outlines(tmp_path) == []


def test_a_bad_value_is_one_error_and_training_goes_on_untraced(tmp_path: Path) -> None:
    bad = {"OTEL_TORCH_MODULES_PHASES": "validate"}
    done = run(tmp_path, TRAIN + "train()\nprint('trained')", command=COMMAND, **TRACES_ONLY, **bad)
    assert (done.returncode, done.stdout) == (0, "trained\n")
    assert done.stderr == (
        "Modules are not traced: OTEL_TORCH_MODULES_PHASES: 'validate' is not allowed; "
        "it must be train, eval, or both with a comma\n"
    )
    assert outlines(tmp_path) == []
