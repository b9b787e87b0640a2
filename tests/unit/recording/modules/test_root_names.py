"""A module has one name, whichever threads ask for it first."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from torch import nn

from otel_torch_modules._recording.modules.module_names import RootNames
from tests.support.switching import switching_after

THREADS = 4


@pytest.fixture(autouse=True)
def _switch_often() -> Iterator[None]:
    with switching_after(1e-6):
        yield


def test_threads_that_ask_at_once_are_told_the_same() -> None:
    barrier = Barrier(THREADS)

    def ask(names: RootNames, module: nn.Module) -> str:
        barrier.wait(60)
        return names.of(module)

    with ThreadPoolExecutor(THREADS) as pool:
        for _ in range(3_000):
            names, module = RootNames(), nn.Identity()
            told = [pool.submit(ask, names, module) for _ in range(THREADS)]
            assert {future.result() for future in told} == {"Identity"}
