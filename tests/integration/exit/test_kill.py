"""A process that is killed loses nothing but its last second."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.jaeger_query import poll
from tests.support.otlp_receivers import RECEIVERS
from tests.support.training_program import ENABLED, STEP, TRAIN, environment, outlines, write

TRAIN_AND_WAIT = f"""{TRAIN}
train(3)
print("trained", flush=True)
input()
"""


def start(folder: Path, **variables: str) -> subprocess.Popen[str]:
    """Return a program that has trained and waits."""
    script = write(folder, TRAIN_AND_WAIT)
    program = subprocess.Popen(
        [sys.executable, str(script)],
        env=environment(folder, **ENABLED, **variables),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "trained\n"
    return program


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_steps_that_ended_a_while_before_a_signal_have_arrived(
    tmp_path: Path, number: signal.Signals
) -> None:
    with start(tmp_path) as program:
        try:
            poll(lambda: outlines(tmp_path), lambda found: found == [STEP] * 3, "three steps")
        finally:
            program.send_signal(number)
        assert program.wait() == -number
    assert outlines(tmp_path) == [STEP] * 3


@pytest.mark.parametrize("protocol", RECEIVERS)
def test_steps_have_reached_the_collector_before_a_kill(tmp_path: Path, protocol: str) -> None:
    with RECEIVERS[protocol]() as receiver:
        variables = {
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
        }
        with start(tmp_path, **variables) as program:
            try:
                poll(receiver.outlines, lambda found: found == [STEP] * 3, "three steps")
            finally:
                program.kill()
        assert receiver.outlines() == [STEP] * 3
