"""What is kept of a loop's waits for data, and gone through for each evaluation, does not grow with their number."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from otel_torch_modules._recording.loop.fetches import Fetches, Outside

LOADER: DataLoader[torch.Tensor] = DataLoader(torch.ones(10_000, 4))  # type: ignore[arg-type]


def thread_fetches() -> tuple[Fetches, dict[str, Any]]:
    """Return those of this thread, and what they hold."""
    of_threads: dict[int, dict[str, Any]] = {}
    return Fetches(of_threads, Outside()), of_threads[threading.get_ident()]


def fetch(fetches: Fetches, batches: Iterator[torch.Tensor]) -> None:
    next(batches)
    fetches.keep(batches, fetches.wait(0, 0))


def once(fetches: Fetches) -> None:
    fetch(fetches, iter(LOADER))
    fetches.evaluation_begins()


def for_one_forward(fetches: Fetches) -> None:
    batches = iter(LOADER)
    for _ in range(3):
        fetch(fetches, batches)
    fetches.evaluation_begins()


def for_a_forward_each(fetches: Fetches) -> None:
    batches = iter(LOADER)
    for _ in range(3):
        fetch(fetches, batches)
        fetches.evaluation_begins()


@pytest.mark.parametrize("serve", [once, for_one_forward, for_a_forward_each])
def test_requests_that_no_step_follows_leave_nothing(serve: Callable[[Fetches], None]) -> None:
    fetches, held = thread_fetches()
    most = 0
    for _ in range(50):
        waits = fetches.begin_evaluation(fetches.evaluations)
        serve(fetches)
        waits.settled()
        most = max(most, len(held["_kept"]))
    assert most <= 6  # of this request and the last one
    fetch(fetches, iter(LOADER))
    assert len(fetches.take()) == 1  # the last is a step's


class Kept(list[Any]):
    """A list that counts how often one in it is looked at."""

    looks = 0

    def __iter__(self) -> Iterator[Any]:
        for one in super().__iter__():
            self.looks += 1
            yield one

    def remove(self, value: Any) -> None:
        self.looks += self.index(value) + 1
        super().remove(value)


@pytest.mark.parametrize("forwards", [1, 2])
def test_each_that_is_kept_is_looked_at_a_few_times(forwards: int) -> None:
    fetches, held = thread_fetches()
    waits = fetches.begin_evaluation(fetches.evaluations)
    others = [DataLoader(torch.ones(2, 4)) for _ in range(200)]  # type: ignore[arg-type,var-annotated]
    for loader in others:
        batches = iter(loader)
        for _ in range(forwards):
            fetch(fetches, batches)
            fetches.evaluation_begins()
    del batches
    kept = Kept(held["_kept"])
    number = len(kept)
    waits._kept = kept  # type: ignore[assignment]
    waits.settled()
    assert number == 200 * forwards
    assert len(kept) == (200 if forwards == 1 else 0)
    assert kept.looks <= 2 * number
