"""The loop's wait for its data, and to which step it belongs."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Iterable, Iterator
from itertools import islice, pairwise
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from otel_torch_modules.testing import capture_spans
from tests.support.passing_time import since_epoch
from tests.support.small_training import (
    BACKWARD,
    FORWARD,
    STEP,
    Net,
    batch,
    loader,
    optimizer,
    outline,
    step,
)
from tests.support.training_program import ENABLED, outlines, run, said

WAIT = "dataloader.next\n"
WITH_DATA = step(WAIT, FORWARD, BACKWARD, optimizer())


def test_the_first_step_starts_with_its_fetch_and_others_where_the_last_ended(
    model: Net, sgd: torch.optim.SGD
) -> None:
    with capture_spans() as captured:
        for inputs in loader(3):
            model(inputs).sum().backward()
            sgd.step()
    assert outline(captured) == 3 * WITH_DATA
    first, *_ = trees = captured.trees
    assert first.start == first.children[0].start
    assert all(tree.children[0].attributes == {"torch.phase": "data"} for tree in trees)
    for before, after in pairwise(trees):
        assert after.start == before.end
        assert after.start <= after.children[0].start


def test_each_micro_batch_has_its_fetch(model: Net, sgd: torch.optim.SGD) -> None:
    with capture_spans() as captured:
        for number, inputs in enumerate(loader(4)):
            model(inputs).sum().backward()
            if number % 2:
                sgd.step()
    assert outline(captured) == 2 * step(2 * (WAIT + FORWARD + BACKWARD), optimizer())


def test_all_fetches_before_a_step_are_its_own(model: Net, sgd: torch.optim.SGD) -> None:
    """transformers' Trainer takes all batches of an accumulation first."""
    batches = iter(loader(6))
    with capture_spans() as captured:
        for _ in range(2):
            for inputs in [next(batches) for _ in range(3)]:
                model(inputs).sum().backward()
            sgd.step()
    assert outline(captured) == 2 * step(3 * WAIT, 3 * (FORWARD + BACKWARD), optimizer())


def test_a_loader_that_holds_one_batch_ahead(model: Net, sgd: torch.optim.SGD) -> None:
    """Accelerate's loader and timm's prefetcher do."""

    def one_ahead() -> Iterator[torch.Tensor]:
        batches = iter(loader(4))
        current = next(batches)
        for ahead in batches:
            yield current
            current = ahead
        yield current

    with capture_spans() as captured:
        for _ in range(2):  # epochs
            for inputs in one_ahead():
                model(inputs).sum().backward()
                sgd.step()
    first = step(2 * WAIT, FORWARD, BACKWARD, optimizer())
    assert outline(captured) == 2 * (first + 2 * WITH_DATA + STEP)


@pytest.mark.parametrize("other", [False, True], ids=["generation", "teacher"])
def test_what_lies_between_fetch_and_forward_does_not_take_the_wait(
    model: Net, sgd: torch.optim.SGD, other: bool
) -> None:
    called = Net() if other else model
    with capture_spans() as captured:
        for inputs in loader(3):
            with torch.no_grad():
                for _ in range(2):
                    called(inputs)
            model(inputs).sum().backward()
            sgd.step()
    steps = [tree for tree in captured.trees if tree.name == "train.step"]
    name = "Net_1" if other else "Net"
    before = 2 * FORWARD if other else ""
    own = [part.replace("Net", name) for part in (FORWARD, BACKWARD)]
    assert [tree.outline() + "\n" for tree in steps] == 3 * [step(WAIT, before, *own, optimizer())]
    starts = [tree.start == tree.children[0].start for tree in steps]
    assert starts == 3 * [True]


def validate(model: Net, batches: Iterable[torch.Tensor]) -> None:
    model.eval()
    with torch.no_grad():
        for inputs in batches:
            model(inputs)
    model.train()


@pytest.mark.parametrize("all_of_it", [False, True])
def test_what_an_evaluation_fetched_is_no_steps(
    model: Net, sgd: torch.optim.SGD, all_of_it: bool
) -> None:
    whole, endless = loader(3), iter(loader(100))
    with capture_spans() as captured:
        for _ in range(2):
            for inputs in loader(2):
                model(inputs).sum().backward()
                sgd.step()
            validate(model, whole if all_of_it else islice(endless, 3))
        model(batch()).sum().backward()  # a batch that was there
        sgd.step()
    steps = [tree for tree in captured.trees if tree.name == "train.step"]
    assert "".join(tree.outline() + "\n" for tree in steps) == 4 * WITH_DATA + STEP


@pytest.mark.parametrize("workers", [0, 1])
def test_a_fetch_of_a_loop_that_was_left_is_dropped(
    model: Net, sgd: torch.optim.SGD, workers: int
) -> None:
    batches: DataLoader[torch.Tensor] = DataLoader(
        torch.ones(8, 4),  # type: ignore[arg-type]
        batch_size=2,
        num_workers=workers,
        persistent_workers=workers > 0,
        multiprocessing_context="fork" if workers else None,
    )
    with capture_spans() as captured:
        for _ in range(2):
            for inputs in batches:
                model(inputs).sum().backward()
                sgd.step()
                break
            for _ in batches:  # its first batch is not used
                break
            spare = iter(loader(1))  # takes the iterator's place in memory
        left = since_epoch()
        for inputs in batches:
            model(inputs).sum().backward()
            sgd.step()
    assert outline(captured) == 6 * WITH_DATA
    del spare
    waits = [tree.find("dataloader.next")[0].start for tree in captured.trees]
    assert [start > left for start in waits] == 2 * [False] + 4 * [True]


def test_an_iterator_for_each_batch(model: Net, sgd: torch.optim.SGD) -> None:
    left, right = loader(2), loader(2)
    with capture_spans() as captured:
        for _ in range(3):
            inputs = next(iter(left)) + next(iter(right))
            model(inputs).sum().backward()
            sgd.step()
    assert outline(captured) == 3 * step(2 * WAIT, FORWARD, BACKWARD, optimizer())


def test_a_thread_that_fetches_for_the_loop_is_no_wait_of_the_loop(
    model: Net, sgd: torch.optim.SGD
) -> None:
    given: queue.Queue[torch.Tensor] = queue.Queue()
    go = threading.Semaphore(0)

    def fetch() -> None:
        for inputs in loader(6):
            given.put(inputs)
            go.acquire()

    thread = threading.Thread(target=fetch)
    with capture_spans() as captured:
        thread.start()
        for number in range(6):
            inputs = given.get()
            output = model(inputs)
            if number % 2:  # it fetches in the middle of a step, or between two
                go.release()
            output.sum().backward()
            sgd.step()
            if not number % 2:
                go.release()
        thread.join()
    assert outline(captured) == 6 * STEP


def test_a_fetch_before_another_optimizers_step_is_that_steps(
    model: Net, sgd: torch.optim.SGD
) -> None:
    batches = iter(loader(3))
    with capture_spans() as captured:
        model(batch()).sum().backward()
        sgd.step()
        next(batches)
        sgd.step()
        model(batch()).sum().backward()
        sgd.step()
    assert outline(captured) == step(FORWARD, BACKWARD, optimizer(), WAIT, optimizer()) + STEP


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
        self.scale = nn.Hardtanh(0, 2)

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
    calls = [] if workers else 2 * ["    forward Hardtanh"]
    assert outlines(tmp_path) == 4 * [[*LINEAR_STEP[:2], *calls, *LINEAR_STEP[2:]]]
