"""A program may put something else in place of Python's clocks: we do not ask it, and the process ends all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.side_by_side import side_by_side
from tests.support.training_program import ENABLED, TRAIN, run

# As in a test of a training loop: clocks that stand still, and a pause that takes no time.
STOPPED = """
import sys, time
from otel_torch_modules import TorchModuleInstrumentor

train(1)
TorchModuleInstrumentor()._tracing._engine.worker.flush(0.5)
asked = set()

def stopped(name):
    value = getattr(time, name)() if name != "sleep" else None

    def function(*_):
        caller = sys._getframe(1).f_globals["__name__"]
        if caller.startswith("otel_torch_modules"):
            asked.add((caller, name))
        return value
    return function

CLOCKS = ("monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "time", "time_ns", "sleep")
replaced = {getattr(time, name): stopped(name) for name in CLOCKS}
for module in MODULES:
    for name, value in list(vars(module).items()):
        if callable(value) and type(value) is type(len) and value in replaced:
            setattr(module, name, replaced[value])
train(3)
"""
OF_TIME = (
    STOPPED.replace("MODULES", "[time]")
    + """
TorchModuleInstrumentor().uninstrument()
print(sorted(asked))
"""
)
# Some also replace what others have taken from `time` by name.
OF_ALL = STOPPED.replace(
    "MODULES",
    "[one for name, one in sys.modules.items() if name not in ('threading', 'queue', 'selectors')]",
)


@pytest.mark.slow
def test_a_program_whose_clocks_stand_still_ends(tmp_path: Path) -> None:
    def ended(folder: Path, program: str) -> tuple[int, str]:
        variables = {
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",  # nobody is there
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        }
        done = run(folder, TRAIN + program, **ENABLED, **variables)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout

    assert side_by_side(tmp_path, ended, (OF_TIME, OF_ALL)) == {
        OF_TIME: (0, "[]\n"),
        OF_ALL: (0, ""),
    }
