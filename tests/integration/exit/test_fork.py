"""A fork at any moment: no span is sent twice, and no process waits for a lock that nobody will release."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.training_program import ENABLED, STEP, TRAIN, outlines, run, said, traces

# Python 3.12 warns where a process that has other threads forks itself, and ours has one more.
FORKING = {**ENABLED, "PYTHONWARNINGS": "ignore:This process:DeprecationWarning"}

WAIT = """
def wait():
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(os.getpid(), child, code)
"""


def by_process(folder: Path, *pids: str) -> list[list[list[str]]]:
    found = traces(folder)
    assert {str(root.resource["process.pid"]) for root in found} <= set(pids)
    return [
        [root.outline() for root in found if str(root.resource["process.pid"]) == pid]
        for pid in pids
    ]


def test_a_fork_while_the_provider_is_being_made(tmp_path: Path) -> None:
    source = f"""{TRAIN}
import os, sys
{WAIT}
train(1)
child = os.fork()
if child:
    wait()
train(1)
"""
    parent, child, code = said(run(tmp_path, source, **FORKING)).split()
    assert code == "0"
    assert by_process(tmp_path, parent, child) == [[STEP, STEP], [STEP]]


BREAK = """
class Break(nn.Module):
    def forward(self, x):
        global child
        if child is None:
            child = os.fork()
        return x

child = None
model.act = nn.Sequential(Break(), nn.ReLU())
"""
BROKEN_STEP = [
    "train.step",
    "  forward Net",
    "    forward fc",
    "    forward act",
    "      forward act.0",
    "      forward act.1",
    "  backward",
    "    backward Net",
    "      backward act",
    "        backward act.1",
    "      backward fc",
    "  optimizer.step SGD",
]


@pytest.mark.parametrize(
    ("in_child", "of_child"),
    [("os._exit(0)", []), ("sys.exit(0)", []), ("train(1)", [BROKEN_STEP])],
    ids=["_exit", "exit", "trains on"],
)
def test_a_fork_in_the_middle_of_a_step(
    tmp_path: Path, in_child: str, of_child: list[list[str]]
) -> None:
    source = f"""{TRAIN}{BREAK}
import os, sys
{WAIT}
train(1)
if child:
    wait()
    train(1)
else:
    {in_child}
"""
    parent, child, code = said(run(tmp_path, source, **FORKING)).split()
    assert code == "0"
    assert by_process(tmp_path, parent, child) == [[BROKEN_STEP, BROKEN_STEP], of_child]


def test_a_fork_in_the_middle_of_an_evaluation(tmp_path: Path) -> None:
    source = f"""{TRAIN}{BREAK}
import os, sys
{WAIT}
model.eval()
with torch.no_grad():
    model(torch.ones(2, 4))
if child:
    wait()
"""
    parent, child, code = said(run(tmp_path, source, **FORKING)).split()
    assert code == "0"
    evaluation = [line.removeprefix("  ") for line in BROKEN_STEP[1:6]]
    assert by_process(tmp_path, parent, child) == [[evaluation], []]


def test_a_child_has_not_trained_before_it_does_itself(tmp_path: Path) -> None:
    source = f"""{TRAIN}
import os, sys
{WAIT}
def evaluate():
    with torch.no_grad():
        for _ in range(2):
            model.eval()(torch.ones(2, 4))
    model.train()

train(2)
child = os.fork()
if child:
    wait()
evaluate()
if not child:
    train(1)
    evaluate()
"""
    parent, child, code = said(run(tmp_path, source, **FORKING)).split()
    assert code == "0"
    forward = [line.removeprefix("  ") for line in STEP[1:4]]
    evaluation = ["evaluate", *STEP[1:4] * 2]
    of_parent, of_child = by_process(tmp_path, parent, child)
    assert of_parent == [STEP, STEP, evaluation]
    assert of_child == [forward, forward, STEP, evaluation]
    numbers = [
        root.attributes.get("torch.step")
        for root in traces(tmp_path)
        if str(root.resource["process.pid"]) == child
    ]
    assert numbers == [None, None, 0, 0]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_the_workers_of_a_data_loader_send_nothing(tmp_path: Path, method: str) -> None:
    source = f"""{TRAIN}
from torch.utils.data import DataLoader

class Rows:
    def __len__(self):
        return 4
    def __getitem__(self, index):
        return torch.ones(4)

if __name__ == "__main__":
    loader = DataLoader(Rows(), batch_size=2, num_workers=2, multiprocessing_context={method!r})
    train(1)
    for x in loader:
        model(x).sum().backward()
        optimizer.step()
"""
    said(run(tmp_path, source, **FORKING))
    fetched = [STEP[0], "  dataloader.next", *STEP[1:]]
    assert outlines(tmp_path) == [STEP, fetched, fetched]
