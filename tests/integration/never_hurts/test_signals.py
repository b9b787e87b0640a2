"""What the program's own signal handlers raise reaches the program, wherever in our code it strikes."""

from __future__ import annotations

import ast
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import otel_torch_modules
from tests.support.training_program import (
    ENABLED,
    TIME_LIMIT,
    TRAIN,
    environment,
    run,
    write,
)

STRIKES = 2_000

STORM = f"""
import signal, sys
import torch
from torch import nn
from torch.utils.data import DataLoader
from otel_torch_modules._assembly.reading import between
from otel_torch_modules._recording.causes import garbage_collection, loop_calls
from otel_torch_modules.testing import capture_spans

for kind in (between, garbage_collection, loop_calls):
    kind.SHORTEST = 1 << 62  # the machine may have other work
torch.set_num_threads(1)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(6))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x

model = Net()
sgd = torch.optim.SGD(model.parameters(), lr=1e-9)

def loop(steps):
    torch.set_grad_enabled(True)  # torch's own contexts are not proof against being struck
    model.train()
    for inputs in DataLoader(torch.ones(2 * steps, 4), batch_size=2):
        model(inputs).sum().backward()
        sgd.step()
        sgd.zero_grad()
        with torch.no_grad():
            model.eval()(inputs)
            model.train()

struck, armed = 0, False

def strike(number, frame):
    global struck, armed
    if armed:
        armed = False  # one at a time: the loop counts what it catches
        struck += 1
        raise (TimeoutError if struck % 2 else KeyboardInterrupt)(struck)

sys.unraisablehook = lambda unraisable: print("swallowed:", repr(unraisable.exc_value), unraisable.object)
signal.signal(signal.SIGALRM, strike)
caught = 0
with capture_spans() as captured:
    loop(2)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0017)
    while struck < {STRIKES}:
        try:
            armed = True
            loop(50)
            armed = False
        except (TimeoutError, KeyboardInterrupt) as error:
            caught += error.args[0] == struck
    signal.setitimer(signal.ITIMER_REAL, 0)
    loop(1)
    before = len(captured.spans)
    loop(20)
print(struck, caught)
steps = [tree.outline() for tree in captured.trees if tree.name == "train.step"]
print(len(set(steps[-20:])), steps[0] == steps[-1])
"""


@pytest.mark.slow
def test_a_storm_of_exceptions_reaches_the_program(tmp_path: Path) -> None:
    done = run(tmp_path, STORM)
    assert done.stdout.splitlines() == [f"{STRIKES} {STRIKES}", "1 True"], done
    (summary,) = done.stderr.splitlines()  # and no error of ours
    assert "lost by TimeoutError" in summary
    assert done.returncode == 0


def test_nothing_of_ours_runs_where_an_exception_can_reach_nobody() -> None:
    """Python prints and forgets what a destructor raises, a signal handler that strikes there included."""
    sources = Path(otel_torch_modules.__file__).parent.rglob("*.py")
    found = [
        (path.name, node.name)
        for path in sources
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name == "__del__"
    ]
    assert found == []


@pytest.mark.slow
@pytest.mark.parametrize("exporter", ["otlp", "otlp_file"])
def test_an_interrupted_process_ends_by_the_signal(tmp_path: Path, exporter: str) -> None:
    """Also where a thread of ours still imports what it needs to send: at several moments after the first step."""
    script = write(tmp_path, f"{TRAIN}\ntrain(1)\nprint(flush=True)\nwhile True:\n    train(1)\n")
    ends = []
    for moment in (0.0, 0.1, 0.3):
        with subprocess.Popen(
            [sys.executable, script],
            env=environment(tmp_path, **ENABLED, OTEL_TRACES_EXPORTER=exporter),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(moment)
            process.send_signal(signal.SIGINT)
            _, complaints = process.communicate(timeout=TIME_LIMIT)
            ends.append((process.returncode, "KeyboardInterrupt" in complaints.splitlines()))
    assert ends == 3 * [(-signal.SIGINT, True)]
