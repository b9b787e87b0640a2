"""What is taken of torch for `collectives.py` does what is said of it: a version that lacks a name says which."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed
from torch._C._distributed_c10d import HashStore, ProcessGroup

from otel_torch_modules._recording.torch_private.collectives import (
    AFTER_US,
    CollectiveOperator,
    collectives_dump,
    group_of,
    stand_before,
    tells_when_done,
)
from tests.support.switching import switching_after


def test_collectives_dump(tmp_path: Path) -> None:
    distributed.init_process_group("gloo", f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        distributed.all_reduce(torch.ones(1))
        dump = collectives_dump()
    finally:
        distributed.destroy_process_group()
    names = [entry["profiling_name"] for entry in json.loads(dump or "{}").get("entries", ())]
    since = (
        2,
        13,
    )  # gloo has one; a torch for CUDA has NCCL's before that, with nothing of gloo's in it
    is_there = tuple(map(int, torch.__version__.split(".")[:2])) >= since
    assert names[-1:] == ["gloo:all_reduce"] * is_there


def group_of_gloo(store: HashStore, rank: int, ranks: int) -> ProcessGroup:
    """Return a process group that nobody else knows."""
    group = ProcessGroup(store, rank, ranks)
    gloo = distributed.ProcessGroupGloo(store, rank, ranks, timedelta(seconds=20))
    group._register_backend(torch.device("cpu"), ProcessGroup.BackendType.GLOO, gloo)
    group._set_default_backend(ProcessGroup.BackendType.GLOO)
    return group


class Two:
    """A process group of two ranks, each of which is a thread of this process."""

    def __init__(self) -> None:
        store = HashStore()
        self.groups = self.each(lambda rank: group_of_gloo(store, rank, 2))

    def each(self, call: Callable[[int], Any]) -> list[Any]:
        """Return what `call` returns for each rank; both call at once."""
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(call, range(2)))


def test_stand_before_a_collectiveoperator_whose_kernel_after_us_waits_for_another_thread() -> None:
    """It waits without the interpreter lock, which that thread needs."""
    two = Two()
    before = torch._C._dispatch_dump("c10d::monitored_barrier_")
    passed: list[tuple[str, int]] = []

    def kernel(operator: CollectiveOperator) -> Callable[..., Any]:
        def call(keys: Any, *args: Any) -> Any:
            passed.append(group_of(args[operator.group]))
            return operator.launch(keys & AFTER_US, *args)

        return call

    undo = stand_before(["monitored_barrier_", "of_no_version"], kernel)
    try:
        two.each(lambda rank: two.groups[rank].monitored_barrier(timedelta(seconds=20), False))
    finally:
        undo()
    assert [size for _, size in passed] == [2, 2]
    assert torch._C._dispatch_dump("c10d::monitored_barrier_") == before
    two.each(lambda rank: two.groups[rank].monitored_barrier(timedelta(seconds=20), False))
    assert len(passed) == 2


def test_stand_before_and_its_undo_while_another_thread_is_on_its_way_into_a_kernel() -> None:
    """It waits for the interpreter lock at the kernel's entry, and goes on when that was taken off."""

    def kernel(operator: CollectiveOperator) -> Callable[..., Any]:
        return lambda keys, *args: operator.launch(keys & AFTER_US, *args)

    group = group_of_gloo(HashStore(), 0, 1)
    over = threading.Event()
    launches = threading.Semaphore(0)
    launched: list[Tensor] = []

    def launch() -> None:
        while not over.is_set():
            launches.release()
            tensor = torch.ones(1)
            group.allreduce([tensor]).wait()
            launched[:] = [tensor]

    thread = threading.Thread(target=launch)
    try:
        with switching_after(60):  # who has the lock keeps it, but where it lets go of it
            thread.start()
            # Before torch 2.9 nothing keeps a kernel alive that was taken off.
            for _ in range(300 if hasattr(torch.library, "get_kernel") else 1):
                undo = stand_before(["allreduce_"], kernel)
                launches.acquire()  # the other goes on until it lets go of the lock: it launches
                until = time.perf_counter_ns() + 50_000
                while time.perf_counter_ns() < until:  # and comes to the kernel, without the lock
                    pass
                undo()
                while launches.acquire(blocking=False):
                    pass
    finally:
        over.set()
        thread.join()
    assert launched == [torch.ones(1)]


def test_tells_when_done_and_group_of() -> None:
    two = Two()
    names: list[str] = []
    told: list[bool] = []
    done = threading.Semaphore(0)

    def kernel(operator: CollectiveOperator) -> Callable[..., Any]:
        def call(keys: Any, *args: Any) -> Any:
            result = operator.launch(keys & AFTER_US, *args)
            names.append(group_of(args[operator.group])[0])
            told.append(tells_when_done(result, lambda _: done.release()))
            return result

        return call

    for group in two.groups:
        group._set_group_name("7")
    undo = stand_before(["allreduce_"], kernel)
    try:
        tensors = two.each(lambda _: torch.ones(2))
        works = [
            group.allreduce([tensor]) for group, tensor in zip(two.groups, tensors, strict=True)
        ]
        for work in works:
            work.wait()
    finally:
        undo()
    assert [tensor.tolist() for tensor in tensors] == [[2.0, 2.0], [2.0, 2.0]]
    assert done.acquire(timeout=20)
    assert done.acquire(timeout=20)
    assert (names, told) == (["7", "7"], [True, True])
    assert not tells_when_done(distributed.Work(), print)
    two.groups[0]._set_group_desc("data")
    assert group_of(two.groups[0]) == ("data", 2)
