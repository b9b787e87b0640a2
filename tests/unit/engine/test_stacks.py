"""Whether anything is waited for, seen from frames: of real threads that stand where the tests let them."""

from __future__ import annotations

import bdb
import gc
import pdb
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch

from otel_torch_modules._engine.stacks import Stack, all_stacks, positions_of, stack_of
from tests.support.module_from_source import module_from_source


class Stop:
    """Where a thread stands until the test lets it go on."""

    def __init__(self) -> None:
        self._reached = threading.Semaphore(0)
        self._let_go = threading.Semaphore(0)

    def __call__(self) -> None:
        self._reached.release()
        assert self._let_go.acquire(timeout=60)

    def reached(self) -> None:
        assert self._reached.acquire(timeout=60)

    def let_go(self) -> None:
        self._let_go.release()


@contextmanager
def standing(program: Callable[[Stop], object]) -> Iterator[tuple[int, Stop]]:
    """Run `program` in a thread up to its first stop; let it run to its end afterwards."""
    stop = Stop()
    thread = threading.Thread(target=program, args=(stop,), name="program")
    before = threading.gettrace()
    threading.settrace(None)  # type: ignore[arg-type]  # who measures branches looks as a debugger does
    try:
        thread.start()
    finally:
        threading.settrace(before)  # type: ignore[arg-type]
    stop.reached()
    assert thread.ident is not None
    try:
        yield thread.ident, stop
    finally:
        for _ in range(10):
            stop.let_go()
        thread.join(60)
        assert not thread.is_alive()


def call_through(name: str) -> Callable[[Stop], object]:
    """Return a program that stands inside a function of a module of this name."""
    function: Callable[[Stop], object] = module_from_source(
        name, "def work(stop):\n    stop()\n"
    ).work
    return lambda stop: function(stop)


def step(stop: Stop) -> None:
    stop()


def for_loop(stop: Stop) -> None:
    for _ in range(2):
        step(stop)
        stop()


def while_loop(stop: Stop) -> None:
    left = 2
    while left:
        step(stop)
        stop()
        left -= 1


def loop_around(stop: Stop) -> None:
    for _ in range(2):
        one_epoch(stop)
        stop()


def one_epoch(stop: Stop) -> None:
    for _ in range(1):
        step(stop)


def straight_on(stop: Stop) -> None:
    step(stop)
    stop()


def another_loop(stop: Stop) -> None:
    for _ in range(1):
        step(stop)
    for _ in range(1):
        stop()


def loop_of_a_dispatcher(stop: Stop) -> None:
    source = (
        "def dispatch(stop, cell):\n    for _ in range(2):\n        cell(stop)\n        stop()\n"
    )
    module_from_source("ipykernel.kernelbase", source).dispatch(stop, step)


@pytest.mark.parametrize(
    ("program", "waits"),
    [
        (for_loop, True),
        (while_loop, True),
        (loop_around, True),
        (straight_on, False),
        (another_loop, False),
        (loop_of_a_dispatcher, False),
    ],
)
def test_a_loop_that_goes_on_is_told_from_one_that_is_over(
    program: Callable[[Stop], object], waits: bool
) -> None:
    with standing(program) as (thread, stop):
        inside = positions_of(thread)
        stop.let_go()
        stop.reached()
        assert stack_of(thread).repeats(inside) is waits


def test_a_call_like_one_that_is_over_is_another_loop() -> None:
    with standing(for_loop) as (thread, _):
        inside = positions_of(thread)
    with standing(for_loop) as (thread, stop):
        stop.let_go()
        stop.reached()
        now = stack_of(thread)
        frames = {level.position.frame for level in now}
        if not frames & {position.frame for position in inside}:  # else memory was used again
            assert not now.repeats(inside)


@pytest.mark.parametrize(
    ("name", "of_program"),
    [
        ("train", True),
        ("lightning.pytorch.loops.fit_loop", True),
        ("torch.distributed.distributed_c10d", False),
        ("asyncio.base_events", False),
        ("IPython.core.interactiveshell", False),
        ("ipykernel.kernelapp", False),
        ("otel_torch_modules._recording.recorder", False),
    ],
)
def test_whose_a_frame_is(name: str, of_program: bool) -> None:
    with standing(call_through(name)) as (thread, _):
        (level,) = (level for level in stack_of(thread) if level.module == name)
    assert level.of_program is of_program


@pytest.mark.parametrize(
    ("name", "compiling"),
    [
        ("torch._dynamo.convert_frame", True),
        ("torch._inductor.compile_fx", True),
        ("torch._dynamo.eval_frame", False),
        ("torch._inductor.output_code", False),
        ("torch.nn.modules.module", False),
    ],
)
def test_compiling_is_told_from_running_what_was_compiled(name: str, compiling: bool) -> None:
    with standing(call_through(name)) as (thread, _):
        stack = stack_of(thread)
    assert stack.is_compiling is compiling
    assert stack.in_torch


@pytest.mark.slow
def test_real_compilation_is_seen_and_running_its_result_is_not() -> None:
    seen: list[Stack] = []

    def backend(graph: torch.fx.GraphModule, _: object) -> Callable[..., object]:
        seen.append(stack_of(threading.get_ident()))

        def run(*arguments: object) -> object:
            seen.append(stack_of(threading.get_ident()))
            return graph.forward(*arguments)

        return run

    torch._dynamo.reset()
    torch.compile(lambda x: x * 2, backend=backend)(torch.ones(2))
    assert [stack.is_compiling for stack in seen] == [True, False]


def traced(stop: Stop) -> None:
    sys.settrace(lambda *_: None)
    try:
        sys._getframe().f_trace = lambda *_: None
        stop()
    finally:
        sys.settrace(None)


class Prompt(pdb.Pdb):
    """A debugger at whose prompt nobody types."""

    def __init__(self, stop: Stop) -> None:
        super().__init__(nosigint=True)
        self._stop = stop

    def cmdloop(self, intro: object = None) -> None:
        self._stop()
        self.set_continue()


def paused(stop: Stop) -> None:
    Prompt(stop).set_trace()
    step_after = 1
    del step_after


@pytest.mark.parametrize(("program", "debugged"), [(traced, True), (paused, True), (step, False)])
def test_a_debugger_is_seen_from_another_thread(
    program: Callable[[Stop], object], debugged: bool
) -> None:
    with standing(program) as (thread, _):
        assert stack_of(thread).is_debugged is debugged
    assert bdb.Bdb is not None


def test_a_thread_that_runs_no_python_stands_nowhere() -> None:
    assert stack_of(1) == ()
    assert positions_of(1) == ()
    assert not stack_of(1).in_program


def test_the_way_is_short_and_ends_in_torch() -> None:
    source = "def all_reduce(stop):\n    stop()\n"
    inner = module_from_source("torch.distributed.distributed_c10d", source).all_reduce
    outer = module_from_source("train", "def main(inner, stop):\n    inner(stop)\n").main

    def program(stop: Stop) -> None:
        outer(inner, stop)

    with standing(program) as (thread, _):
        stack = stack_of(thread)
    # What stands still is this file's `Stop`, which is the program's too; so without it.
    shown = str(Stack(level for level in stack if level.module not in (__name__, "threading")))
    assert shown == "train.py:2 → torch/distributed/…all_reduce"


def test_all_threads_are_told_and_none_of_their_source_is_read() -> None:
    with standing(step) as (_, _stop):
        text = all_stacks()
    assert "Thread program (most recent call last):\n" in text
    assert f'  File "{__file__}", line ' in text
    assert "stop()" not in text


class Owned:
    """What a program's function has."""


@pytest.mark.parametrize("look", [stack_of, positions_of, lambda _: all_stacks()])
def test_what_a_function_has_is_freed_when_it_ends_though_it_was_looked_at(
    look: Callable[[int], object],
) -> None:
    seen: list[weakref.ref[Owned]] = []

    def owner(stop: Stop) -> None:
        owned = Owned()
        seen.append(weakref.ref(owned))
        stop()
        del stop

    def program(stop: Stop) -> None:
        owner(stop)
        seen.append(seen[0]() is None)  # type: ignore[arg-type]

    gc.disable()
    try:
        with standing(program) as (thread, _):
            look(thread)
            look(thread)
    finally:
        gc.enable()
    assert seen[1] is True
