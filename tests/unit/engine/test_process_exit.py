"""Nothing is lost when a process ends, and a collector that does not answer cannot hold it up."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]

FILE = {"OTEL_TRACES_EXPORTER": "otlp_file", "OTEL_TORCH_MODULES_FILE": "traces.jsonl"}

STEPS = """
from tests.support.steps_without_torch import Training
training = Training()
for index in range(3):
    training.step(index, spans=2_000)
"""


def span_counts(folder: Path) -> list[int]:
    text = (folder / "traces.jsonl").read_text()
    return [text.count(f'"name":"step {index}"') for index in range(3)] + [
        text.count('"name":"span ')
    ]


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ("", 0),
        ("raise SystemExit(3)", 3),
        ("import sys; sys.exit()", 0),
        ("1 / 0", 1),
    ],
)
def test_nothing_is_lost_however_a_program_ends(
    run_program: Run, tmp_path: Path, ending: str, code: int
) -> None:
    done = run_program(STEPS + ending, FILE)
    assert done.returncode == code
    assert span_counts(tmp_path) == [1, 1, 1, 6_000]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_nothing_is_lost_in_a_multiprocessing_child(
    run_program: Run, tmp_path: Path, method: str
) -> None:
    source = f"""
import multiprocessing, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of a fork with threads
from tests.support.steps_without_torch import Training

def work():
    global training
    training = Training()
    for index in range(3):
        training.step(index)

if __name__ == "__main__":
    child = multiprocessing.get_context({method!r}).Process(target=work)
    child.start()
    child.join()
    raise SystemExit(child.exitcode)
"""
    done = run_program(source, FILE)
    assert (done.returncode, done.stderr) == (0, "")
    assert span_counts(tmp_path) == [1, 1, 1, 0]


def test_steps_that_ended_a_while_ago_survive_a_kill(run_program: Run, tmp_path: Path) -> None:
    source = """
import os, signal
from pathlib import Path
from tests.support.steps_without_torch import Training
training = Training()
for index in range(3):
    training.step(index)
training.hand_over()
path = Path("traces.jsonl")
while not (path.exists() and "step 2" in path.read_text()):
    pass
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert run_program(source, FILE).returncode == -signal.SIGKILL
    assert span_counts(tmp_path) == [1, 1, 1, 0]


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_dead_collector_does_not_hold_a_program_up(
    run_program: Run, dead_endpoint: str, protocol: str
) -> None:
    # 12 requests, each of which the exporter would try for 10 s: unbounded, this takes two minutes
    source = STEPS.replace("Training()", "Training(exit_timeout_s=1.0)")
    done = run_program(
        source,
        {"OTEL_EXPORTER_OTLP_ENDPOINT": dead_endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol},
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert "Spans were lost" not in done.stderr


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_who_interrupts_the_end_waits_no_more(
    run_program: Run, dead_endpoint: str, protocol: str
) -> None:
    source = (
        """
import signal

def interrupt(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
"""
        + STEPS.replace("Training()", "Training(exit_timeout_s=3600.0)")
        + "signal.setitimer(signal.ITIMER_REAL, 0.5)  # at exit, which would wait for an hour"
    )
    done = run_program(
        source,
        {"OTEL_EXPORTER_OTLP_ENDPOINT": dead_endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol},
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert "KeyboardInterrupt" in done.stderr
    assert "3 steps recorded, 0 sent" in done.stderr


def test_no_signal_handler_is_installed(run_program: Run) -> None:
    source = (
        """
import signal
before = [signal.getsignal(number) for number in signal.valid_signals()]
"""
        + STEPS
        + """
training.flush(30)
print([signal.getsignal(number) for number in signal.valid_signals()] == before)
"""
    )
    assert run_program(source, FILE).stdout == "True\n"
