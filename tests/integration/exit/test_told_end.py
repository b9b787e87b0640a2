"""A job's end that is told in the process, and then a kill without warning: a launcher does not wait for `atexit`.

It is told by the end of the thread that trains, and by the default process group that is destroyed.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.jaeger_query import poll
from tests.support.training_program import (
    ENABLED,
    STEP,
    TRAIN,
    environment,
    outlines,
    run,
    said,
    traces,
    write,
)

# Nothing leaves by itself before the kill.
HELD_BACK = {**ENABLED, "OTEL_BSP_SCHEDULE_DELAY": "3600000"}

GROUP = f"""{TRAIN}
import os, signal, threading
import torch.distributed
from torch.distributed import destroy_process_group, distributed_c10d

def join():
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)

def in_thread(function, *arguments):
    thread = threading.Thread(target=function, args=arguments)
    thread.start()
    thread.join()

join()
"""

OPEN = "model(torch.ones(2, 4)).sum().backward()"


@pytest.mark.parametrize(
    ("work", "destroy", "kill", "last"),
    [
        ("train(3)", "torch.distributed.destroy_process_group()", "os._exit(9)", []),
        ("in_thread(train, 3)", "destroy_process_group()", "os.kill(os.getpid(), 9)", []),
        (
            f"train(3)\nin_thread(lambda: {OPEN})",
            "distributed_c10d.destroy_process_group(torch.distributed.group.WORLD)",
            "os._exit(9)",
            [STEP[:-1]],
        ),
        (
            "train(3)\nwith torch.no_grad(): model.eval()(torch.ones(2, 4))",
            "in_thread(torch.distributed.destroy_process_group)",
            "os._exit(9)",
            [["evaluate", *STEP[1:4]]],
        ),
    ],
    ids=["same thread", "another thread", "open in a thread that is gone", "after an evaluation"],
)
def test_nothing_is_lost_by_a_kill_after_the_process_group_is_destroyed(
    tmp_path: Path, work: str, destroy: str, kill: str, last: list[list[str]]
) -> None:
    done = run(tmp_path, f"{GROUP}\n{work}\n{destroy}\n{kill}", **HELD_BACK)
    assert (done.returncode, done.stderr) == (9 if "_exit" in kill else -signal.SIGKILL, "")
    assert outlines(tmp_path) == [STEP] * 3 + last


def test_a_job_that_makes_its_process_group_anew_goes_on_with_the_step_that_is_open(
    tmp_path: Path,
) -> None:
    source = f"""{GROUP}
def again():
    torch.distributed.destroy_process_group()
    join()

train(1)
again()
train(1)
model(torch.ones(2, 4)).sum().backward()
again()
optimizer.step()
loss = model(torch.ones(2, 4)).sum()
in_thread(again)
loss.backward()
optimizer.step()
part = torch.distributed.new_group([0])
torch.distributed.destroy_process_group(part)
with torch.no_grad():
    model.eval()(torch.ones(2, 4))
again()
model.train()
train(1)
"""
    said(run(tmp_path, source, **HELD_BACK))
    roots = traces(tmp_path)
    assert [root.outline() for root in roots] == [*[STEP] * 4, ["evaluate", *STEP[1:4]], STEP]
    assert [root.attributes["torch.step"] for root in roots] == [0, 1, 2, 3, 3, 4]


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        ("train(3)", [STEP] * 3),
        (
            "train(1)\n    with torch.no_grad(): model.eval()(torch.ones(2, 4))",
            [STEP, ["evaluate", *STEP[1:4]]],
        ),
    ],
    ids=["steps", "an evaluation"],
)
def test_what_a_thread_has_done_leaves_when_the_thread_ends(
    tmp_path: Path, work: str, expected: list[list[str]]
) -> None:
    source = f"""{TRAIN}
import threading

def work():
    {work}

thread = threading.Thread(target=work)
thread.start()
thread.join()
print("ended", flush=True)
input()
"""
    with subprocess.Popen(
        [sys.executable, str(write(tmp_path, source))],
        env=environment(tmp_path, **HELD_BACK),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == "ended\n"
            poll(lambda: outlines(tmp_path), lambda found: found == expected, "all that was done")
        finally:
            program.kill()
    assert outlines(tmp_path) == expected
