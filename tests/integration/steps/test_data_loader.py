"""The loop's wait for its data, and to which step it belongs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from otel_torch_modules.testing import capture_spans
from tests.integration.steps.programs import (
    BACKWARD,
    FORWARD,
    STEP,
    Net,
    batch,
    optimizer,
    outline,
    step,
)
from tests.integration.training_program import ENABLED, outlines, run, said

WAIT = "dataloader.next\n"
WITH_DATA = step(WAIT, FORWARD, BACKWARD, optimizer())


@pytest.fixture
def model() -> Net:
    return Net()


@pytest.fixture
def sgd(model: Net) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=0.01)


def loader(batches: int) -> DataLoader[torch.Tensor]:
    return DataLoader(torch.ones(2 * batches, 4), batch_size=2)  # type: ignore[arg-type]


def test_a_step_starts_with_its_fetch(model: Net, sgd: torch.optim.SGD) -> None:
    with capture_spans() as captured:
        for inputs in loader(3):
            model(inputs).sum().backward()
            sgd.step()
    assert outline(captured) == 3 * WITH_DATA
    for tree in captured.trees:
        assert tree.start == tree.children[0].start
        assert tree.children[0].attributes == {"torch.phase": "data"}


def test_each_micro_batch_has_its_fetch(model: Net, sgd: torch.optim.SGD) -> None:
    with capture_spans() as captured:
        for number, inputs in enumerate(loader(4)):
            model(inputs).sum().backward()
            if number % 2:
                sgd.step()
    assert outline(captured) == 2 * step(2 * (WAIT + FORWARD + BACKWARD), optimizer())


def test_a_fetch_that_something_else_follows_is_dropped(model: Net, sgd: torch.optim.SGD) -> None:
    batches = iter(loader(3))
    with capture_spans() as captured:
        next(batches)  # an evaluation's
        model.eval()
        with torch.no_grad():
            model(batch())
        model.train()
        model(batch()).sum().backward()
        sgd.step()
        next(batches)  # followed by an optimizer's step alone
        sgd.step()
        model(batch()).sum().backward()
        sgd.step()
    evaluation = "forward Net\n  forward fc\n  forward act\n"
    twice = step(FORWARD, BACKWARD, 2 * optimizer())
    assert outline(captured) == evaluation + twice + STEP


def test_the_end_of_the_data_is_no_fetch(model: Net, sgd: torch.optim.SGD) -> None:
    with capture_spans() as captured:
        for _ in range(2):  # epochs
            for inputs in loader(2):
                model(inputs).sum().backward()
                sgd.step()
    assert outline(captured) == 4 * WITH_DATA


def test_two_loaders_at_once_have_a_fetch_each(model: Net, sgd: torch.optim.SGD) -> None:
    with capture_spans() as captured:
        for left, right in zip(loader(2), loader(2), strict=True):
            model(left + right).sum().backward()
            sgd.step()
    assert outline(captured) == 2 * step(2 * WAIT, FORWARD, BACKWARD, optimizer())


PROGRAM = """
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.set_num_threads(1)

class Ones(Dataset):
    def __init__(self):
        self.scale = nn.Linear(4, 4).requires_grad_(False)

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return self.scale(torch.ones(4)) if CALL else torch.ones(4)

CALL = {call}

def main():
    model = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = DataLoader(
        Ones(), batch_size=2, num_workers={workers}, multiprocessing_context={context!r}
    )
    for inputs in loader:
        model(inputs).sum().backward()
        optimizer.step()

if __name__ == "__main__":
    main()
"""
LINEAR_STEP = [
    "train.step",
    "  dataloader.next",
    "  forward Linear",
    "  backward",
    "    backward Linear",
    "  optimizer.step SGD",
]


@pytest.mark.parametrize(("workers", "context"), [(0, None), (2, "fork"), (2, "spawn")])
def test_worker_processes_send_nothing(tmp_path: Path, workers: int, context: str | None) -> None:
    if context == "fork" and sys.platform != "linux":
        context = "spawn"
    source = PROGRAM.format(call=False, workers=workers, context=context)
    said(run(tmp_path, source, **ENABLED))
    assert outlines(tmp_path) == 4 * [LINEAR_STEP]


@pytest.mark.parametrize(("workers", "context"), [(0, None), (2, "fork")])
def test_modules_of_a_dataset_make_no_steps(
    tmp_path: Path, workers: int, context: str | None
) -> None:
    source = PROGRAM.format(call=True, workers=workers, context=context)
    said(run(tmp_path, source, **ENABLED))
    found = outlines(tmp_path)
    assert [tree for tree in found if tree != ["forward Linear"]] == 4 * [LINEAR_STEP]
    assert found.count(["forward Linear"]) == 8
