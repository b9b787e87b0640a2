"""`otel-torch-modules demo`: the example training, traced by the environment variables alone, and its steps.

Needs no server: spans go to a file. Where an OTLP endpoint is set, they go there as well.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from otel_torch_modules import environment_variables as variables
from otel_torch_modules._reading.query import Query
from otel_torch_modules._secrets import without_secrets
from otel_torch_modules.cli.command_error import CommandError
from otel_torch_modules.cli.say import say, say_error
from otel_torch_modules.cli.step_tree import Cut
from otel_torch_modules.cli.terminal import terminal
from otel_torch_modules.cli.typed import typed
from otel_torch_modules.cli.view import View

_SCRIPT = Path(__file__).parents[1] / "examples" / "train_gpt.py"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_TRAINING_FAILED = 1


def run_demo(steps: int, folder: Path, environ: Mapping[str, str]) -> int:
    """Train for `steps` steps, write the traces into `folder`, print them, and return the exit code.

    Raises:
        CommandError: the folder cannot be written to, or no trace arrived in it.
    """
    file = _new_file(folder)
    shown = without_secrets(environ)
    endpoint = next((shown[name] for name in _ENDPOINTS if environ.get(name)), None)
    command = [sys.executable, str(_SCRIPT), "--steps", str(steps)]
    exporters = "otlp,otlp_file" if endpoint else "otlp_file"
    say(f"{variables.OTEL_TORCH_MODULES_ENABLED}=true OTEL_TRACES_EXPORTER={exporters} \\")
    say(f"  {variables.OTEL_TORCH_MODULES_FILE}={typed(str(file))} \\")
    say(f"  {_python()} {_shortest(str(_SCRIPT))} --steps {steps}")
    traced = {
        **environ,
        variables.OTEL_TORCH_MODULES_ENABLED: "true",
        variables.OTEL_TORCH_MODULES_FILE: str(file),
        "OTEL_TRACES_EXPORTER": exporters,
    }
    try:
        training = subprocess.run(command, env=traced, check=False)
    except KeyboardInterrupt:
        return _TRAINING_FAILED
    if training.returncode:
        say_error(f"The training failed with exit code {training.returncode}.")
        return _TRAINING_FAILED
    if not file.is_file():
        raise CommandError(
            f"the training ran, but {file} was not written; `{_program()} doctor` may say why"
        )
    _show(file, endpoint, shown)
    return 0


def _new_file(folder: Path) -> Path:
    file = folder / "demo.jsonl"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
    except OSError as error:
        raise CommandError(f"{folder} cannot hold the traces: {error.strerror}") from error
    return file


def _show(file: Path, endpoint: str | None, environ: Mapping[str, str]) -> None:
    console = terminal()
    view = View([str(file)], Query(), console, Cut())
    console.print()
    view.print_overview()
    console.print()
    named = typed(str(file))
    say(f"Why is it slow: {_program()} why {named}")
    say(f"Any other step: {_program()} view {named} --step N")
    if endpoint:
        say(f"Sent to {endpoint}. The slowest step is trace {view.slowest.trace_id}")
        if environ.get("JAEGER_UI_URL"):
            say(f"{environ['JAEGER_UI_URL'].rstrip('/')}/trace/{view.slowest.trace_id}")


def _program() -> str:
    """Return what the user types to run this program."""
    name = "otel-torch-modules"
    return name if shutil.which(name) else f"{_python()} -m otel_torch_modules"


def _python() -> str:
    """Return what the user types to run this interpreter."""
    here = os.path.dirname(sys.executable)
    found = shutil.which("python")
    if found and os.path.dirname(found) == here and os.path.samefile(found, sys.executable):
        return "python"
    return _shortest(sys.executable)


def _shortest(path: str) -> str:
    return typed(min(os.path.relpath(path), path, key=len))
