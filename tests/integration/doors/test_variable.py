"""The door that needs no change to the program: one environment variable, and the training script as it is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.side_by_side import side_by_side
from tests.support.training_program import (
    BIN,
    ENABLED,
    STEP,
    TRAIN,
    outlines,
    run,
    said,
    traces,
    write,
)

STARTED = {
    "script": (sys.executable, "train.py"),
    "module": (sys.executable, "-m", "pkg.train"),
    "command": (sys.executable, "-c", "import train; train.train()"),
    "torchrun": (str(BIN / "torchrun"), "--standalone", "train.py"),
}


def test_a_program_is_traced_however_it_is_started(tmp_path: Path) -> None:
    def traced(folder: Path, how: str) -> list[list[str]]:
        script = TRAIN + "if __name__ != 'train': train()"
        write(folder, script, "pkg/train.py")
        said(run(folder, script, command=STARTED[how], **ENABLED))
        return outlines(folder)

    assert side_by_side(tmp_path, traced, STARTED) == {how: [STEP, STEP] for how in STARTED}


def test_a_worker_process_sends_what_it_trained_and_nothing_of_its_parents(tmp_path: Path) -> None:
    def traced(folder: Path, method: str) -> list[list[list[str]]]:
        source = f"""{TRAIN}
if __name__ == "__main__":
    import os
    train(1)
    worker = torch.multiprocessing.get_context({method!r}).Process(target=train)
    worker.start()
    worker.join()
    train(1)
    print(worker.exitcode, os.getpid(), worker.pid)
"""
        code, *pids = said(run(folder, source, **ENABLED)).split()
        assert code == "0"
        assert outlines(folder) == [STEP] * 4
        found = traces(folder)
        return [
            [root.outline() for root in found if root.resource["process.pid"] == int(pid)]
            for pid in pids  # the parent's, the child's
        ]

    methods = ("spawn", "fork", "forkserver")
    assert side_by_side(tmp_path, traced, methods) == {
        method: [[STEP, STEP]] * 2 for method in methods
    }


def test_a_worker_that_trains_in_a_process_that_does_not(tmp_path: Path) -> None:
    source = f"""{TRAIN}
if __name__ == "__main__":
    worker = torch.multiprocessing.get_context("fork").Process(target=train)
    worker.start()
    worker.join()
    print(worker.exitcode)
"""
    assert said(run(tmp_path, source, **ENABLED)) == "0\n"
    assert outlines(tmp_path) == [STEP, STEP]


LOADED = """
import sys
print(sorted({name.split(".")[0] for name in sys.modules} & {"opentelemetry", "torch"}))
print(sorted(name for name in sys.modules if name.startswith("otel_torch_modules")))
"""


@pytest.mark.parametrize("value", [None, ""], ids=["unset", "empty"])
def test_a_program_that_nobody_asked_to_trace_loads_the_door_and_nothing_else(
    tmp_path: Path, value: str | None
) -> None:
    variables = {} if value is None else {"OTEL_TORCH_MODULES_ENABLED": value}
    assert said(run(tmp_path, f"{TRAIN}train()\n{LOADED}", **variables)) == (
        "['torch']\n['otel_torch_modules', 'otel_torch_modules._autoload', 'otel_torch_modules._until_torch']\n"
    )
    assert outlines(tmp_path) == []


def test_a_program_that_is_not_to_be_traced_does_not_load_opentelemetry(tmp_path: Path) -> None:
    done = run(tmp_path, f"{TRAIN}train()\n{LOADED}", OTEL_TORCH_MODULES_ENABLED="False")
    assert said(done).splitlines()[0] == "['torch']"
    assert outlines(tmp_path) == []


def test_importing_the_package_imports_neither_torch_nor_the_sdk(tmp_path: Path) -> None:
    source = f"import otel_torch_modules\ndir(otel_torch_modules)\n{LOADED}"
    assert said(run(tmp_path, source, **ENABLED)) == "[]\n['otel_torch_modules']\n"


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("OTEL_TORCH_MODULES_ENABLED", "1", "true or false"),
        ("OTEL_TORCH_MODULES_MAX_DEPTH", "deep", "an integer of at least 1"),
    ],
)
def test_a_bad_value_is_one_error_and_training_goes_on_untraced(
    tmp_path: Path, name: str, value: str, allowed: str
) -> None:
    done = run(tmp_path, TRAIN + "train()\nprint('trained')", **{**ENABLED, name: value})
    assert (done.returncode, done.stdout) == (0, "trained\n")
    assert done.stderr == (
        f"Modules are not traced: {name}: {value!r} is not allowed; it must be {allowed}\n"
    )
    assert outlines(tmp_path) == []


def test_a_bad_value_is_logged_as_an_error(tmp_path: Path) -> None:
    source = f"""
import logging
logging.basicConfig(format="%(levelname)s %(name)s")
{TRAIN}
train()
"""
    done = run(tmp_path, source, **ENABLED, OTEL_TORCH_MODULES_SPAN_KIND="server")
    assert (done.returncode, done.stderr) == (0, "ERROR otel_torch_modules\n")


def test_an_sdk_that_cannot_be_imported_is_one_error_and_training_goes_on(tmp_path: Path) -> None:
    write(tmp_path, "raise ImportError('broken')", "opentelemetry/__init__.py")
    done = run(tmp_path, TRAIN + "train()\nprint('trained')", **ENABLED)
    assert (done.returncode, done.stdout) == (0, "trained\n")
    first, *_, last = done.stderr.splitlines()
    assert (first, last) == ("Modules are not traced", "ImportError: broken")
    assert done.stderr.count("Traceback") == 1
