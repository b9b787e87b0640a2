"""A process that is killed loses nothing but its last second."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.jaeger_query import poll
from tests.support.otlp_receivers import RECEIVERS
from tests.support.training_program import (
    ENABLED,
    STEP,
    TIME_LIMIT,
    TRAIN,
    environment,
    outlines,
    write,
)

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


# Writers share a file, as ranks may: one of them goes on, the others are killed wherever they are.
WRITERS = """
import os, random, signal, sys, time
from otel_torch_modules._emission.otlp.file import OtlpFileSpanExporter
from otel_torch_modules._emission.otlp.request_exporter import EncodedRequest

def write(name, until):
    exporter = OtlpFileSpanExporter("traces.jsonl")
    number = 0
    while number == 0 or not until():
        line = b'{"by":"%s","number":%d,"rest":"%s"}\\n' % (name, number, bytes([120]) * 200_000)
        answer = exporter.attempt(EncodedRequest(line, 1))
        assert not answer.error, answer
        number += 1
    return number

def forked(name, until):
    begun, begins = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(begins, b"!")
        write(name, until)
        os._exit(0)
    os.read(begun, 1)
    return child

survivor = forked(b"survivor", lambda: os.path.exists("enough"))
for kill in range(KILLS):
    child = forked(b"killed", bool)
    time.sleep(random.uniform(0, 0.003))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
open("enough", "w").close()
assert os.waitpid(survivor, 0)[1] == 0
"""


def test_a_kill_tears_the_line_that_is_being_written_and_no_other(tmp_path: Path) -> None:
    kills = 100
    script = write(tmp_path, WRITERS.replace("KILLS", str(kills)))
    subprocess.run([sys.executable, str(script)], cwd=tmp_path, check=True, timeout=TIME_LIMIT)
    *lines, after = (tmp_path / "traces.jsonl").read_text().split("\n")
    assert after == ""
    whole, torn = [], []
    for line in lines:
        try:
            whole.append(json.loads(line))
        except json.JSONDecodeError:
            if line:  # one is empty where two writers ended what a third had torn
                torn.append(line)
    assert 0 < len(torn) <= 2 * kills
    numbers = [line["number"] for line in whole if line["by"] == "survivor"]
    assert numbers == [*range(len(numbers))]
    assert len(numbers) > kills
