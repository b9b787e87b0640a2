"""What variables name and somebody else wrote may raise, or never come back, when it is made: it costs itself alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from otel_torch_modules._entry_points import GROUPS
from otel_torch_modules._standard_variables import API_RULES, PROVIDER_RULES
from tests.support.plugins import DISTRIBUTION, NAME, VERSION, write_plugin
from tests.support.side_by_side import side_by_side
from tests.support.training_program import ENABLED, STEP, TRAIN, outlines, run

BROKEN = {
    "import": "import no_such_library",
    "no such name": "",
    "made": "def make(*_, **__): raise RuntimeError('no licence\\nfound')",
    "needs an argument": "def make(*_, licence, **__): pass",
    "is another thing": "def make(*_, **__): return 'licence'",
    "exits": "raise SystemExit('no licence')",
}
BESIDE = {
    "OTEL_TRACES_EXPORTER": f"{NAME},otlp_file",
    "OTEL_METRICS_EXPORTER": f"{NAME},console",
    "OTEL_PROPAGATORS": f"tracecontext,{NAME}",
}
ASKED_BY_OTLP = {name for name in GROUPS if name.endswith("_CREDENTIAL_PROVIDER")}
# These are asked for in the thread in which the program runs, where to exit means what it says.
IN_THE_PROGRAM = {*API_RULES, *PROVIDER_RULES}
# Of these it is looked at what is made.
OF_A_KIND = {name for name in GROUPS if "EXPORTER" not in name} - IN_THE_PROGRAM


@pytest.mark.parametrize("way", BROKEN)
def test_each_is_one_line_that_names_it_and_costs_nothing_else(tmp_path: Path, way: str) -> None:
    variables = set(GROUPS) - ASKED_BY_OTLP
    if way == "exits":
        variables -= IN_THE_PROGRAM
    elif way == "is another thing":
        variables &= OF_A_KIND
    plugin = write_plugin(tmp_path / "plugins", set(GROUPS.values()), BROKEN[way])
    named = {name: BESIDE.get(name, NAME) for name in variables}
    changed = "set(before.items()) - set(os.environ.items())"
    source = f"import os\nbefore = dict(os.environ)\n{TRAIN}train(3)\nprint('trained', *{changed})"
    beside = {"OTEL_TRACES_EXPORTER": "otlp_file", "OTEL_METRICS_EXPORTER": "console", **named}
    done = run(tmp_path, source, **ENABLED, **beside, **plugin)
    assert done.returncode == 0
    assert done.stdout.startswith("trained\n")
    assert '"torch.steps"' in done.stdout
    assert outlines(tmp_path) == [STEP] * 3
    by = f"={NAME}, of {DISTRIBUTION} {VERSION}, cannot be used: "
    lines = done.stderr.splitlines()
    assert [line for line in lines if by not in line or "ignored" not in line] == []
    assert sorted(line.partition("=")[0] for line in lines) == sorted(variables)


HANGS = {
    "import": "import threading\nthreading.Event().wait()",
    "made": "import threading\ndef make(*_, **__): threading.Event().wait()",
}
FORKS = "import os\nos.wait() if os.fork() else os._exit(0)\n"


@pytest.mark.parametrize("way", HANGS)
def test_each_that_never_comes_back_is_left_behind(tmp_path: Path, way: str) -> None:
    def ended(folder: Path, variable: str) -> tuple[int, list[str], str]:
        plugin = write_plugin(folder / "plugins", {GROUPS[variable]}, HANGS[way])
        beside = {"OTEL_METRICS_EXPORTER": "console", variable: BESIDE.get(variable, NAME)}
        forks = FORKS if "DETECTORS" in variable else ""
        done = run(folder, f"{TRAIN}train(3)\n{forks}", **ENABLED, **{**beside, **plugin})
        assert outlines(folder) == [STEP] * 3, variable
        return done.returncode, done.stderr.splitlines(), variable

    reason = "cannot be used: TimeoutError: it does not come back; it is ignored"
    variables = sorted(set(GROUPS) - ASKED_BY_OTLP - set(API_RULES))
    if way == "import":
        variables = ["OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "OTEL_TRACES_EXPORTER"]
    assert side_by_side(tmp_path, ended, variables) == {
        variable: (0, [f"{variable}={NAME}, of {DISTRIBUTION} {VERSION}, {reason}"], variable)
        for variable in variables
    }


def test_a_process_ends_though_nothing_comes_back(tmp_path: Path) -> None:
    plugin = write_plugin(tmp_path / "plugins", set(GROUPS.values()), HANGS["made"])
    variables = sorted(OF_A_KIND - ASKED_BY_OTLP | {"OTEL_TRACES_EXPORTER"})
    done = run(tmp_path, f"{TRAIN}train(3)", **ENABLED, **dict.fromkeys(variables, NAME), **plugin)
    assert done.returncode == 0
    *_, last = done.stderr.splitlines()
    by = rf"\w+={NAME}, of {DISTRIBUTION} {VERSION}, does not come back"
    assert re.fullmatch(rf"3 steps recorded, 0 sent: {by}(; {by})*", last)
