"""What variables name and somebody else wrote may raise when it is imported or made: it costs itself alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from otel_torch_modules._entry_points import GROUPS
from otel_torch_modules._standard_variables import API_RULES, PROVIDER_RULES
from tests.support.plugins import DISTRIBUTION, NAME, VERSION, write_plugin
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
