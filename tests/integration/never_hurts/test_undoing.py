"""Tracing is taken off as far as that goes, whichever part of the undoing fails: no other part stays for it."""

from __future__ import annotations

import gc
import re
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from types import CodeType
from typing import Any

import pytest
import torch
from torch import distributed, nn
from torch.amp import GradScaler
from torch.distributed.algorithms.join import Join
from torch.optim import Optimizer, lr_scheduler
from torch.optim import optimizer as optimizers
from torch.utils.data.dataloader import _BaseDataLoaderIter

from otel_torch_modules import Config, TorchModuleInstrumentor, trace
from otel_torch_modules._engine.worker import Worker
from otel_torch_modules._recording.causes.causes import Causes
from otel_torch_modules._recording.device_events import DeviceEvents
from otel_torch_modules._recording.loop.hooks import LoopHooks
from otel_torch_modules._recording.loop.process_group import ProcessGroupEnd
from otel_torch_modules._recording.recorder import Recorder
from otel_torch_modules._recording.torch_private.devices import graph_classes
from otel_torch_modules.testing import capture_spans
from tests.integration.never_hurts.test_injected_errors import (
    GUARDS,
    OCCASIONS,
    ROOMS,
    InjectedError,
    Program,
    Seam,
    injected,
    modules,
    raise_on_purpose,
    seams,
)
from tests.support.left_to_itself import let_go_on

CONFIG = Config(device_time="phases")
HOOKS: tuple[Any, ...] = (
    optimizers._global_optimizer_pre_hooks,
    optimizers._global_optimizer_post_hooks,
)
OWNERS: tuple[Any, ...] = (
    nn.Module,
    nn.utils,
    nn.utils.clip_grad,
    _BaseDataLoaderIter,
    GradScaler,
    Optimizer,
    *(kind for kind in vars(lr_scheduler).values() if isinstance(kind, type)),
    torch,
    torch.serialization,
    distributed,
    distributed.distributed_c10d,
    Join,
    *graph_classes(),
)


ENDING_S = 1.0  # reached only for a thread that stays

# They tell whose an error is, and nobody knows where they fail.
TELLING = {name for name in GUARDS if name.startswith("_interruption.")}


def touched() -> dict[tuple[Any, str], Any]:
    """Return what tracing may put something around, or into, by where that is."""
    found = {
        (owner, name): value
        for owner in OWNERS
        for name, value in vars(owner).items()
        if callable(value)
    }
    for place in (*HOOKS, gc.callbacks):
        for entry in place.values() if isinstance(place, dict) else place:
            found[type(place), re.sub(" at 0x[0-9a-f]+", "", str(entry))] = entry
    for thread in threading.enumerate():
        if "otel" in thread.name:
            found[type(thread), thread.name] = thread
    return found


class Before:
    """What there was, to compare with and to go back to."""

    def __init__(self) -> None:
        self._touched = touched()
        self._hooks = [dict(hooks) for hooks in HOOKS]
        self._callbacks = list(gc.callbacks)

    def changed(self) -> set[tuple[Any, str]]:
        """Return where something is another now."""
        now = touched()
        places = self._touched.keys() | now.keys()
        return {place for place in places if self._touched.get(place) != now.get(place)}

    def restore(self) -> None:
        """Undo what has been left."""
        for (owner, name), value in self._touched.items():
            if owner in OWNERS and vars(owner)[name] is not value:
                setattr(owner, name, value)
        for hooks, before in zip(HOOKS, self._hooks, strict=True):
            hooks.clear()
            hooks.update(before)
        gc.callbacks[:] = self._callbacks


@cache
def called() -> frozenset[CodeType]:
    """Return the code of all that runs on the program's thread where tracing is taken off."""
    codes = set()
    with capture_spans(CONFIG):
        Program().run(1)
        sys.setprofile(lambda frame, event, _: codes.add(frame.f_code))
    sys.setprofile(None)
    return frozenset(codes)


def let_end() -> None:
    """Wait for threads of ours that end."""
    let_go_on()
    for thread in threading.enumerate():
        if "otel" in thread.name:
            thread.join(ENDING_S)


def left_by(seam: Seam, occasion: str, act: Callable[[], None]) -> set[tuple[Any, str]]:
    """Return what stays where `seam` acts so when tracing is taken off."""
    before = Before()
    with injected(seam, OCCASIONS[occasion], act) as fault:
        # What guards the rest has nobody to catch an error of its own.
        with suppress(InjectedError), capture_spans(CONFIG):
            tracing = TorchModuleInstrumentor()._tracing
            Program().run(1)
            fault.armed = True
        fault.armed = False
    let_end()
    left = before.changed()
    assert tracing is not None
    tracing.stop()
    if TorchModuleInstrumentor().is_instrumented_by_opentelemetry:
        TorchModuleInstrumentor().uninstrument()
    before.restore()
    return left


@pytest.fixture(autouse=True, scope="module")
def _torch_is_as_it_stays() -> None:
    Program().run(1)  # torch puts wrappers around functions of its own when it first needs them


def test_all_is_undone() -> None:
    before = Before()
    with capture_spans(CONFIG):
        Program().run(1)
        during = before.changed()
    assert {(nn.Module, "__call__"), (_BaseDataLoaderIter, "__next__")} < during
    assert before.changed() == set()


@pytest.mark.parametrize("occasion", ["first", "every"])
def test_a_part_that_is_not_undone_leaves_no_other(occasion: str) -> None:
    wrong = {}
    for room in ROOMS:
        for seam in (seam for module in modules(room) for seam in seams(module)):
            if seam.code in called() and str(seam) not in TELLING:
                left = left_by(seam, occasion, raise_on_purpose)
                if left and (more := left - left_by(seam, occasion, lambda: None)):
                    wrong[str(seam)] = more
    assert wrong == {}


def test_an_interruption_that_comes_out_leaves_nothing_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    before = Before()
    with pytest.raises(KeyboardInterrupt), capture_spans(CONFIG):
        Program().run(1)
        monkeypatch.setattr(Worker, "_wait", interrupted)
    monkeypatch.undo()
    let_end()
    assert before.changed() == set()
    with capture_spans(CONFIG) as captured:
        Program().run(1)
    assert [tree.name for tree in captured.trees] == ["train.step", "evaluate"]


@pytest.mark.parametrize("error", [InjectedError, KeyboardInterrupt])
@pytest.mark.parametrize("part", [Recorder, LoopHooks, ProcessGroupEnd, Causes, DeviceEvents])
def test_a_part_that_does_not_come_on_leaves_none_on(
    part: Any, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: Any) -> None:
        raise error

    before = Before()
    with monkeypatch.context() as patch:
        patch.setattr(part, "install", fails)
        with pytest.raises(error), trace(config=CONFIG):
            pass
    assert before.changed() == set()
    assert not TorchModuleInstrumentor().is_instrumented_by_opentelemetry


def test_each_instrumentor_undoes_what_it_has_done() -> None:
    before = Before()
    derived = type("Derived", (TorchModuleInstrumentor,), {"_instance": None})
    instrumentors = derived(), TorchModuleInstrumentor()
    for instrumentor in instrumentors:
        instrumentor.instrument(config=CONFIG)
    for instrumentor in reversed(instrumentors):
        instrumentor.uninstrument()
    let_end()
    assert not before.changed()
