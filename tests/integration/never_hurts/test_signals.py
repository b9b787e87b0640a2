"""What the program's own signal handlers raise reaches the program, wherever in our code it strikes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.otlp_receivers import RECEIVERS
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
import logging, os, signal, sys
import torch
from torch import nn
from torch.utils.data import DataLoader
from otel_torch_modules._assembly.reading import between
from otel_torch_modules._log import warn
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
        return nn.ReLU()(x)

class Refuses(nn.Module):
    def forward(self, x):
        raise LookupError("no expert for this")

class Kept(logging.Handler):
    def emit(self, entry):
        self.format(entry)

logger = logging.getLogger("storm")
logger.addHandler(Kept())
logger.propagate = False
model = Net()
refuses = Refuses()
sgd = torch.optim.SGD(model.parameters(), lr=1e-9)

def loop(steps=10):
    torch.set_grad_enabled(True)  # torch's own contexts are not proof against being struck
    model.train()
    for inputs in DataLoader(torch.ones(2 * steps, 4), batch_size=2):
        model(inputs).sum().backward()
        sgd.step()
        sgd.zero_grad()
        with torch.no_grad():
            model.eval()(inputs)
            model.train()

def die_and_be_born():
    # What comes and goes beside the loop: models and their classes, children, errors, lines of log.
    type("Fresh", (Net,), {{}})()(torch.ones(2, 4))
    try:
        refuses(torch.ones(2, 4))
    except LookupError:
        pass
    warn(logger, "%d models", 1)
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)

struck, armed = 0, False

def strike(number, frame):
    global struck, armed
    if armed:
        armed = False  # one at a time: the loop counts what it catches
        struck += 1
        raise (TimeoutError if struck % 2 else KeyboardInterrupt)(struck)

def discarded(unraisable):
    # Python's own modules have functions that are called at a fork, where it discards what is raised.
    global struck
    module = getattr(unraisable.object, "__module__", None)
    if module in ("logging", "threading", "random", "concurrent.futures.thread"):
        # Not that a lock is not held which should have been.
        struck -= isinstance(unraisable.exc_value, (TimeoutError, KeyboardInterrupt))
    else:
        print("swallowed:", repr(unraisable.exc_value), unraisable.object)

sys.unraisablehook = discarded
signal.signal(signal.SIGALRM, strike)
caught = 0
with capture_spans() as captured:
    loop(2)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0017)
    while struck < {STRIKES}:
        try:
            armed = True
            (loop if struck // 2 % 2 else die_and_be_born)()
            armed = False
        except (TimeoutError, KeyboardInterrupt):
            caught += 1
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


STRIKE = """
import signal, threading, torch
from torch import nn

take_back, taken = threading.Condition._acquire_restore, 0

def strike(condition, state):
    global taken
    if threading.current_thread() is threading.main_thread():
        taken += 1
        if taken == NUMBER:
            signal.raise_signal(signal.SIGINT)
    take_back(condition, state)

threading.Condition._acquire_restore = strike
"""


@pytest.mark.slow
@pytest.mark.parametrize("thread", [1, 2])
def test_an_interrupt_where_a_thread_of_ours_starts_ends_the_process(
    tmp_path: Path, thread: int
) -> None:
    """Python waits for the thread to run, takes a lock back, and makes another error of what strikes just then."""
    done = run(tmp_path, STRIKE.replace("NUMBER", str(thread)) + TRAIN + "train(200)", **ENABLED)
    assert done.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in done.stderr.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("exporter", ["otlp", "otlp_file"])
def test_an_interrupted_process_ends_by_the_signal(tmp_path: Path, exporter: str) -> None:
    """Also where a thread of ours still imports what it needs to send: at several moments after the first step."""
    script = write(tmp_path, f"{TRAIN}\ntrain(1)\nprint(flush=True)\nwhile True:\n    train(1)\n")
    ends = []
    with RECEIVERS["grpc"]() as collector:  # which answers: exit waits for none that is silent
        variables = {
            **ENABLED,
            "OTEL_TRACES_EXPORTER": exporter,
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
        }
        for moment in (0.0, 0.1, 0.3):
            with subprocess.Popen(
                [sys.executable, script],
                env=environment(tmp_path, **variables),
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            ) as process:
                assert process.stdout is not None
                process.stdout.readline()
                time.sleep(moment)
                process.send_signal(signal.SIGINT)
                try:
                    _, complaints = process.communicate(timeout=TIME_LIMIT)
                finally:
                    process.kill()
                ends.append((process.returncode, "KeyboardInterrupt" in complaints.splitlines()))
    assert ends == 3 * [(-signal.SIGINT, True)]
