"""What holds for every test: afterwards nothing of ours is left in the process."""

from __future__ import annotations

import gc
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest
import torch
from hypothesis import HealthCheck, settings
from opentelemetry import context
from torch import nn
from torch.nn.modules import module as torch_module
from torch.optim import lr_scheduler
from torch.optim import optimizer as torch_optimizer
from torch.utils.data.dataloader import _BaseDataLoaderIter

from otel_torch_modules import TorchModuleInstrumentor
from otel_torch_modules._assembly.reading import between
from otel_torch_modules._recording import wall_clock
from otel_torch_modules._recording.causes import checkpoints, garbage_collection, loop_calls
from otel_torch_modules._recording.loop import evaluations, held_evaluations, pauses
from otel_torch_modules._recording.torch_private.devices import graph_classes
from tests.support.left_to_itself import let_go_on

# Where this is set, each of the hundreds of programs that tests start would compile the whole package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
torch.set_num_threads(1)
settings.register_profile("untimed", deadline=None)  # what a machine takes is no property
settings.register_profile("quick", max_examples=20, deadline=None)
settings.load_profile("untimed")
settings.register_profile(
    "thorough", max_examples=5_000, deadline=None, suppress_health_check=list(HealthCheck)
)


def pytest_collection_finish() -> None:
    """Leave what has been imported out of all collections of garbage: it takes most of their time."""
    gc.collect()
    gc.freeze()


_SCHEDULERS = [kind for kind in vars(lr_scheduler).values() if hasattr(kind, "step")]


def _hooks() -> dict[str, object]:
    return {
        "nn.Module.__call__": nn.Module.__call__,
        "data loader's __next__": _BaseDataLoaderIter.__next__,
        "GradScaler.step": torch.amp.GradScaler.step,
        "zero_grad": (torch.optim.Optimizer.zero_grad, nn.Module.zero_grad),
        "gradients": (nn.utils.clip_grad_norm_, nn.utils.clip_grad_value_),
        "checkpoints": (torch.save, torch.load, torch.serialization.save, torch.serialization.load),
        "GradScaler": (torch.amp.GradScaler.unscale_, torch.amp.GradScaler.update),
        "process group": (
            torch.distributed.destroy_process_group,
            torch.distributed.distributed_c10d.destroy_process_group,
        ),
        "schedulers": [kind.step for kind in _SCHEDULERS],
        "garbage": [callback for callback in gc.callbacks if isinstance(callback, partial)],
        "captures": [(kind.capture_begin, kind.capture_end) for kind in graph_classes()],
        "collectives": torch._C._dispatch_dump("c10d::allreduce_"),
        "forward pre-hooks": list(torch_module._global_forward_pre_hooks),
        "forward hooks": list(torch_module._global_forward_hooks),
        "optimizer pre-hooks": list(torch_optimizer._global_optimizer_pre_hooks),
        "optimizer post-hooks": list(torch_optimizer._global_optimizer_post_hooks),
        "context": dict(context.get_current()),
        "threads": {
            thread.name for thread in threading.enumerate() if "otel" in thread.name.lower()
        },
    }


@pytest.fixture(autouse=True)
def no_pauses_of_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trees are compared whole: none has a stretch, or is two, because the machine had other work."""
    for kind in (between, checkpoints, garbage_collection, loop_calls):
        monkeypatch.setattr(kind, "SHORTEST", 1 << 62)
    for kind in (evaluations, held_evaluations, pauses):
        monkeypatch.setattr(kind, "PAUSE", 1 << 62)


@pytest.fixture(autouse=True)
def the_worlds_clock_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each record reads it for itself, and what sets it meanwhile would part them: here it goes as the other one.

    Spans of the program's read it too, so it begins as right as can be.
    """
    monkeypatch.setattr(wall_clock, "_offset", offset := _offset())
    monkeypatch.setattr(wall_clock, "time_ns", lambda: time.perf_counter_ns() + offset)


def _offset() -> int:
    readings = [(time.perf_counter_ns(), time.time_ns(), time.perf_counter_ns()) for _ in range(20)]
    before, wall, after = min(readings, key=lambda reading: reading[2] - reading[0])
    return wall - (before + after) // 2


@pytest.fixture(params=["closed port", "no answer"])
def dead_endpoint(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a collector that is not there, or that takes connections and says nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if request.param == "no answer":
            listener.listen(16)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Every hook, patch, context and thread that a test puts on is gone after it."""
    before = _hooks()
    yield
    let_go_on()
    left = _hooks()
    assert not TorchModuleInstrumentor().is_instrumented_by_opentelemetry
    assert left == before


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let no test have an address in its name: that is another one in each process that takes a share of the tests."""
    named_by_address = [item.nodeid for item in items if " at 0x" in item.nodeid]
    assert not named_by_address, named_by_address
