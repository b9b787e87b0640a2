"""Who is waited for and who is not: programs that stand where the test lets them, with a clock of the test's."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections.abc import Callable
from functools import partial
from threading import Barrier

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from otel_torch_modules import TorchModuleInstrumentor
from otel_torch_modules._engine.stalls import Stalls
from otel_torch_modules._recording.loop.standing import Standing
from otel_torch_modules._records import Record, Stall
from otel_torch_modules.config import Config
from otel_torch_modules.schedule import Schedule
from otel_torch_modules.testing import capture_spans
from tests.support.module_from_source import module_from_source

Program = Callable[[Barrier], object]

TIMEOUT_S = 60.0


def stand(stop: Barrier) -> None:
    """Meet the test twice: once to say that it may look, once to go on."""
    stop.wait(60)
    stop.wait(60)


_STANDING = "    stop.wait(60)\n    stop.wait(60)\n"
# A kernel that calls one cell and waits for the next, as its frames are named.
KERNEL = module_from_source(
    "ipykernel.kernelbase", f"def run(cell, stop):\n    cell(stop)\n{_STANDING}"
)
COMPILER = module_from_source("torch._dynamo.convert_frame", f"def compile(stop):\n{_STANDING}")
LIBRARY = module_from_source(
    "torch.distributed.distributed_c10d", f"def barrier(stop):\n{_STANDING}"
)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.inside: Callable[[], object] = lambda: None

    def forward(self, x: Tensor) -> Tensor:
        self.inside()
        out: Tensor = self.layer(x)
        return out


class Loop:
    """What trains a model. Each step stands once inside its forward, so that it is seen there."""

    def __init__(self, stop: Barrier) -> None:
        self.stop = stop
        self.model = Net()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)

    def forward(self) -> Tensor:
        return self.model(torch.ones(1, 2)).sum()

    def step(self) -> None:
        self.model.inside = lambda: stand(self.stop)
        self.forward().backward()
        self.model.inside = lambda: None
        self.optimizer.step()


# Those that are waited for.


def in_a_forward(stop: Barrier) -> None:
    Loop(stop).step()


def in_the_loop(stop: Barrier) -> None:
    loop = Loop(stop)
    for _ in range(2):
        loop.step()
        stand(stop)


def between_epochs(stop: Barrier) -> None:
    loop = Loop(stop)

    def epoch() -> None:
        for _ in range(1):
            loop.step()

    for _ in range(2):
        epoch()
        stand(stop)


def in_torch_after_training(stop: Barrier) -> None:
    Loop(stop).step()
    LIBRARY.barrier(stop)


def between_the_phases_of_a_step(stop: Barrier) -> None:
    loop = Loop(stop)
    loop.step()
    loss = loop.forward()
    stand(stop)
    del loss


class StuckSGD(torch.optim.SGD):
    def __init__(self, model: nn.Module, stop: Barrier) -> None:
        super().__init__(model.parameters(), lr=0.1)
        self.stop = stop

    def step(self, closure: object = None) -> None:  # type: ignore[override]
        stand(self.stop)


def in_an_optimizer(stop: Barrier) -> None:
    loop = Loop(stop)
    loop.step()
    loop.forward().backward()
    StuckSGD(loop.model, stop).step()


class Stuck(Dataset[Tensor]):
    def __init__(self, stop: Barrier) -> None:
        self.stop = stop

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Tensor:
        stand(self.stop)
        return torch.ones(2)


def in_the_data_of_an_evaluation(stop: Barrier) -> None:
    loop = Loop(stop)
    loop.step()
    for x in DataLoader(Stuck(stop)):
        loop.model(x)


def in_a_server_s_forward(stop: Barrier) -> None:
    model = Net().eval()
    model(torch.ones(1, 2))
    model.inside = lambda: stand(stop)
    stand(stop)
    model(torch.ones(1, 2))


# Those that are not.


def after_training(stop: Barrier) -> None:
    loop = Loop(stop)
    for _ in range(1):
        loop.step()
    stand(stop)


def in_another_loop_after_training(stop: Barrier) -> None:
    after = Loop(stop)
    for _ in range(1):
        after.step()
    for _ in range(2):
        stand(stop)


def cell_with_a_loop(stop: Barrier) -> None:
    loop = Loop(stop)
    for _ in range(1):
        loop.step()


def cell_that_leaves_a_step_open(stop: Barrier) -> None:
    loop = Loop(stop)
    loop.step()
    loop.forward()


def between_two_requests(stop: Barrier) -> None:
    model = Net().eval()
    for _ in range(2):
        stand(stop)
        model(torch.ones(1, 2))


def in_a_compilation(stop: Barrier) -> None:
    loop = Loop(stop)
    loop.step()
    loop.model.inside = lambda: COMPILER.compile(stop)
    loop.forward()


def in_a_debugger(stop: Barrier) -> None:
    loop = Loop(stop)
    loop.step()
    prompt = module_from_source("pdb", f"def interaction(stop):\n{_STANDING}").interaction
    loop.model.inside = lambda: prompt(stop)
    loop.forward()


THREAD = module_from_source(
    "threading",
    "from threading import BrokenBarrierError\n"
    "def run(program, stop):\n"
    "    try:\n"
    "        program(stop)\n"
    "    except BrokenBarrierError:\n"
    "        pass\n",
)


def said_of(
    program: Program,
    stops: int,
    caplog: pytest.LogCaptureFixture,
    config: Config | None = None,
    pause_s: float = 0.0,
) -> list[str]:
    """Let `program` pass all but the last of so many stops and wait there for a minute; return what is said.

    At each of the others it waits for `pause_s`.
    """
    stop, now = Barrier(2), [0.0]

    def send(record: Record, _: Stall, say: Callable[[str, float], None]) -> None:
        snapshot = tracing._assembler.read_snapshot(record)
        say(snapshot.place, snapshot.seconds)

    with capture_spans(config), caplog.at_level(logging.INFO, "otel_torch_modules"):
        tracing = TorchModuleInstrumentor()._tracing
        assert tracing is not None
        standing = Standing(tracing._steps.current, tracing._recorder)
        stalls = Stalls(TIMEOUT_S, standing, send, lambda: None, tuple, lambda: now[0])
        # Around the program is nothing of the program's.
        thread = threading.Thread(target=THREAD.run, args=(program, stop))
        thread.start()
        try:
            for number in range(stops):
                stop.wait(60)
                is_last = number == stops - 1
                stalls.look()
                for _ in range(130 if is_last and not pause_s else round(2 * pause_s)):
                    now[0] += 0.5
                    stalls.look()
                if not is_last:
                    stop.wait(60)
        finally:
            stop.abort()
            thread.join(60)
    return [
        f"{record.levelname}: {record.message.partition(';')[0]}"
        for record in caplog.records
        if record.name == "otel_torch_modules"
    ]


@pytest.mark.parametrize(
    ("program", "stops", "line"),
    [
        (in_a_forward, 1, "in step 0: in forward Net (since "),
        (in_the_loop, 2, "before step 1: outside any phase"),
        (between_epochs, 2, "before step 1: outside any phase"),
        (in_torch_after_training, 2, "before step 1: outside any phase"),
        (between_the_phases_of_a_step, 2, "in step 1: outside any phase"),
        (in_an_optimizer, 2, "in step 1: in optimizer.step StuckSGD (since "),
        (in_the_data_of_an_evaluation, 2, "before step 1: in dataloader.next (since "),
        (in_a_server_s_forward, 2, "in a forward outside any step: in forward Net (since "),
    ],
)
def test_who_does_not_get_on_is_told_of(
    program: Program, stops: int, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    (said,) = said_of(program, stops, caplog)
    assert said.startswith(f"WARNING: No progress for 60 s {line}")


@pytest.mark.parametrize(
    ("program", "stops"),
    [
        (after_training, 2),
        (in_another_loop_after_training, 2),
        (partial(KERNEL.run, cell_with_a_loop), 2),
        (partial(KERNEL.run, cell_that_leaves_a_step_open), 2),
        (between_two_requests, 2),
        (in_a_debugger, 2),
    ],
    ids=lambda value: getattr(value, "__name__", None) or getattr(value, "args", [None])[0],
)
def test_nothing_is_said_where_nobody_is_waited_for(
    program: Program, stops: int, caplog: pytest.LogCaptureFixture
) -> None:
    assert said_of(program, stops, caplog) == []


def test_a_compilation_is_called_so(caplog: pytest.LogCaptureFixture) -> None:
    (said,) = said_of(in_a_compilation, 2, caplog)
    assert said.startswith("INFO: Compiling for 60 s in step 1: ")


def test_what_a_function_of_the_program_has_is_freed_when_it_ends() -> None:
    seen: list[object] = []

    def owner(stop: Barrier) -> None:
        net = Net()
        net(torch.ones(1, 2))
        seen.append(weakref.ref(net))
        stand(stop)

    def program(stop: Barrier) -> None:
        owner(stop)
        gone = seen[0]
        assert isinstance(gone, weakref.ref)
        seen.append(gone() is None)

    stop = Barrier(2)
    gc.disable()
    try:
        with capture_spans():
            tracing = TorchModuleInstrumentor()._tracing
            assert tracing is not None
            standing = Standing(tracing._steps.current, tracing._recorder)
            thread = threading.Thread(target=program, args=(stop,))
            thread.start()
            stop.wait(60)
            assert standing.states()
            assert standing.states()
            stop.wait(60)
            thread.join(60)
    finally:
        gc.enable()
    assert seen[1] is True


# What is recorded of a step, from all to nothing.
DEPTHS = {
    "modules": Config(),
    "phases": Config(detail_ranks="1"),
    "left out": Config(schedule=Schedule(skip_first=100)),
}


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_stall_is_told_of_however_little_is_recorded(
    depth: str, caplog: pytest.LogCaptureFixture
) -> None:
    (said,) = said_of(in_a_forward, 1, caplog, DEPTHS[depth])
    place = {
        "modules": "in forward Net",
        "phases": "in forward Net",
        "left out": "outside any phase",
    }
    assert said.startswith(f"WARNING: No progress for 60 s in step 0: {place[depth]}")


class Slow(nn.Module):
    """Each of its modules takes most of a minute."""

    def __init__(self, stop: Barrier) -> None:
        super().__init__()
        self.first, self.second, self.third = Net(), Net(), Net()
        for net in (self.first, self.second, self.third):
            net.inside = lambda: stand(stop)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = self.second(x)
        return self.third(x)  # type: ignore[no-any-return]


def one_long_forward(stop: Barrier) -> None:
    Slow(stop)(torch.ones(1, 2)).sum().backward()


def one_long_forward_of_an_evaluation(stop: Barrier) -> None:
    with torch.no_grad():
        Slow(stop).eval()(torch.ones(1, 2))


def batches_that_are_skipped(stop: Barrier) -> None:
    loop = Loop(stop)
    loop.model(torch.ones(1, 2))
    for _ in DataLoader([torch.ones(2)] * 3):
        stand(stop)


def an_evaluation_after_a_step(stop: Barrier) -> None:
    loop = Loop(stop)
    loop.step()
    for _ in range(2):
        stand(stop)
        with torch.no_grad():
            loop.forward()


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize(
    "program",
    [
        one_long_forward,
        one_long_forward_of_an_evaluation,
        batches_that_are_skipped,
        an_evaluation_after_a_step,
    ],
)
def test_who_gets_on_slowly_is_not_told_of(
    program: Program, depth: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert said_of(program, 3, caplog, DEPTHS[depth], pause_s=40) == []
