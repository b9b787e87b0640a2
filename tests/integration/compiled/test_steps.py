"""Optimizers and whole steps that run inside compiled functions: what is seen is right, and the rest is said."""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from otel_torch_modules import Config, Schedule
from otel_torch_modules import step as manual_step
from otel_torch_modules.testing import Captured, capture_spans
from tests.support.small_training import (
    BACKWARD,
    FORWARD,
    STEP,
    Net,
    batch,
    loader,
    outline,
    step,
    train,
)
from tests.support.unhashable import Unhashable

WITHOUT_CAUSES = Config(causes=())  # compilations and collections come and go
ONCE = FORWARD + BACKWARD
Run = Callable[[], object]
Compile = Callable[[torch.optim.Optimizer, str], Run]

UPDATED = (
    "The parameters of Net are updated, and no optimizer is seen to step: that runs inside a compiled function. "
    "Its time is in `between`; where steps are not set by hand, one ends where the next begins"
)
NOTHING_CALLED = (
    "3 steps of SGD have ended, and no module was called before them: what runs inside a compiled function is "
    "not seen. Compile modules, not a function around them, or say `with otel_torch_modules.step(index):` "
    "around each step of the loop"
)


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    """Let each test compile for itself, and other tests' optimizers be gone."""
    torch._dynamo.reset()
    gc.collect()
    yield
    torch._dynamo.reset()


def its_method(optimizer: torch.optim.Optimizer, backend: str) -> Run:
    return torch.compile(optimizer.step, backend=backend)


def a_function_around_it(optimizer: torch.optim.Optimizer, backend: str) -> Run:
    return torch.compile(lambda: optimizer.step(), backend=backend)


def put_in_place(optimizer: torch.optim.Optimizer, backend: str) -> Run:
    optimizer.step = torch.compile(optimizer.step, backend=backend)  # type: ignore[method-assign]
    return optimizer.step  # type: ignore[return-value]


COMPILED = [its_method, a_function_around_it, put_in_place]


class Loop:
    """A model and its optimizer, whose step is compiled."""

    def __init__(self, compile_step: Compile, backend: str = "aot_eager") -> None:
        torch.manual_seed(0)
        self.model = Net()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01)
        self.step = compile_step(self.optimizer, backend)

    def train(
        self, steps: int = 4, micro_batches: int = 1, before: Callable[[], object] = lambda: None
    ) -> list[float]:
        """Make so many steps, with `before` called before each forward; return the parameters."""
        for _ in range(steps):
            for _ in range(micro_batches):
                before()
                self.model(batch()).sum().backward()
            self.step()
            self.optimizer.zero_grad()
        return [value for one in self.model.parameters() for value in one.flatten().tolist()]


def compiled_optimizers(captured: Captured) -> list[object]:
    """Return of each step whether its optimizer is said to be compiled."""
    return [tree.attributes.get("torch.optimizer.compiled") for tree in captured.trees]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "otel" in record.name]


@pytest.mark.parametrize("compile_step", COMPILED)
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_a_compiled_optimizer_ends_steps(
    compile_step: Compile, micro_batches: int, caplog: pytest.LogCaptureFixture
) -> None:
    untraced = Loop(compile_step).train(micro_batches=micro_batches)
    torch._dynamo.reset()
    with capture_spans(WITHOUT_CAUSES) as captured:
        assert Loop(compile_step).train(micro_batches=micro_batches) == untraced
    assert outline(captured) == 4 * step(micro_batches * ONCE)
    assert compiled_optimizers(captured) == [True, True, True, None]  # of the last nothing tells
    assert {tree.attributes["torch.step.micro_batches"] for tree in captured.trees} == {
        micro_batches
    }
    assert warnings(caplog) == [UPDATED]


@pytest.mark.parametrize("micro_batches", [1, 3])
@pytest.mark.parametrize("before", ["Identity", "Linear"])
def test_it_ends_steps_that_another_module_begins(
    before: str, micro_batches: int, caplog: pytest.LogCaptureFixture
) -> None:
    module = {"Identity": nn.Identity(), "Linear": nn.Linear(4, 4)}[before]
    with capture_spans(WITHOUT_CAUSES) as captured:
        Loop(its_method).train(micro_batches=micro_batches, before=lambda: module(batch()))
    assert outline(captured) == 4 * step(micro_batches * (f"forward {before}\n" + ONCE))
    assert compiled_optimizers(captured) == [True, True, True, None]
    assert warnings(caplog) == [UPDATED]


def test_a_module_that_cannot_be_hashed_is_in_such_a_step() -> None:
    other = Unhashable()
    with capture_spans(WITHOUT_CAUSES) as captured:
        Loop(its_method).train(before=lambda: other(batch()))
    assert outline(captured) == 4 * step("forward Unhashable\n", ONCE)


def test_what_inductor_made_of_an_optimizer_ends_steps() -> None:
    with capture_spans(WITHOUT_CAUSES) as captured:
        Loop(its_method, "inductor").train()
    assert outline(captured) == 4 * step(ONCE)
    assert compiled_optimizers(captured) == [True, True, True, None]


def test_its_time_is_in_its_step_and_what_the_loop_waits_for_in_the_next() -> None:
    loop = Loop(its_method)
    with capture_spans(WITHOUT_CAUSES) as captured:
        for inputs in loader(3):
            loop.model(inputs).sum().backward()
            loop.step()
            loop.optimizer.zero_grad()
    assert outline(captured) == 3 * step("dataloader.next\n", ONCE)
    first, second, _ = captured.trees
    (backward,) = (span for span in first.children if span.name == "backward")
    # Dynamo compiles in the first step, for far longer than the rest takes.
    assert first.end - backward.end > (first.end - first.start) / 2
    assert second.start == first.end


def test_compiling_it_is_in_its_step() -> None:
    with capture_spans(Config(causes=("compile",))) as captured:
        Loop(its_method).train()
    first, *others = captured.trees
    assert [span.name for span in first.children if span.name == "compile"] != []
    assert first.find("forward Net") != []
    assert [tree.find("compile") for tree in others[1:]] == [[], []]


def test_steps_that_are_left_out_end_by_it_too() -> None:
    with capture_spans(Config(causes=(), schedule=Schedule(wait=2, active=1))) as captured:
        Loop(its_method).train(steps=7)
    assert outline(captured) == 2 * step(ONCE)
    assert [tree.attributes["torch.step"] for tree in captured.trees] == [2, 5]


def test_by_hand_it_is_told_of_too() -> None:
    loop = Loop(its_method)
    with capture_spans(WITHOUT_CAUSES) as captured:
        for index in range(3):
            with manual_step(index):
                loop.train(steps=1)
    assert outline(captured) == 3 * step(ONCE)
    assert compiled_optimizers(captured) == [True, True, True]


def test_a_scaler_around_it_skips_nothing() -> None:
    loop = Loop(put_in_place)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    with capture_spans(WITHOUT_CAUSES) as captured:
        for _ in range(3):
            scaler.scale(loop.model(batch()).sum()).backward()  # type: ignore[no-untyped-call]
            scaler.step(loop.optimizer)
            scaler.update()
            loop.optimizer.zero_grad()
    assert outline(captured) == 3 * step(ONCE)
    assert compiled_optimizers(captured) == [True, True, True]
    assert [tree.attributes.get("torch.step.skipped") for tree in captured.trees] == [None] * 3


def test_what_changes_parameters_while_an_optimizer_is_seen_ends_nothing() -> None:
    torch.compile(lambda x: x, backend="eager")(torch.ones(1))  # Dynamo is there
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans(WITHOUT_CAUSES) as captured:
        train(model, sgd)
        for _ in range(2):
            for _ in range(2):
                model(batch()).sum().backward()
                with torch.no_grad():
                    model.fc.weight.clamp_(-1, 1)
            sgd.step()
            sgd.zero_grad()
    assert outline(captured) == STEP + 2 * step(2 * ONCE, "optimizer.step SGD\n")
    assert compiled_optimizers(captured) == [None, None, None]


# Functions around the forward: no module is called outside a graph.


def forward_alone(model: nn.Module, sgd: torch.optim.SGD) -> Run:
    forward = torch.compile(lambda x: model(x).sum(), backend="aot_eager")

    def once() -> None:
        forward(batch()).backward()
        sgd.step()
        sgd.zero_grad()

    return once


def forward_and_backward(model: nn.Module, sgd: torch.optim.SGD) -> Run:
    @torch.compile(backend="aot_eager")
    def both(x: Tensor) -> None:
        model(x).sum().backward()

    def once() -> None:
        both(batch())
        sgd.step()
        sgd.zero_grad()

    return once


def gradients(model: nn.Module, sgd: torch.optim.SGD) -> Run:
    parameters = list(model.parameters())

    @torch.compile(backend="aot_eager")
    def ask(x: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(model(x).sum(), parameters)

    def once() -> None:
        for parameter, gradient in zip(parameters, ask(batch()), strict=True):
            parameter.grad = gradient
        sgd.step()
        sgd.zero_grad()

    return once


def all_of_it(model: nn.Module, sgd: torch.optim.SGD) -> Run:
    @torch.compile(backend="aot_eager")
    def once() -> None:
        model(batch()).sum().backward()
        sgd.step()
        sgd.zero_grad()

    return once


FUNCTIONS = [forward_alone, forward_and_backward, gradients, all_of_it]
Make = Callable[[nn.Module, torch.optim.SGD], Run]


def trained(make: Make, by_hand: bool) -> list[float]:
    """Make four steps; return the parameters."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    train = make(model, sgd)
    for index in range(4):
        with manual_step(index) if by_hand else contextlib.nullcontext():
            train()
    return [value for one in model.parameters() for value in one.flatten().tolist()]


@pytest.mark.parametrize("make", FUNCTIONS)
def test_by_hand_a_step_is_one_of_which_the_rest_is_unknown(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    untraced = trained(make, by_hand=False)
    with capture_spans(WITHOUT_CAUSES) as captured:
        assert trained(make, by_hand=True) == untraced
    seen = [] if make is all_of_it else ["optimizer.step SGD\n"]
    assert outline(captured) == 4 * step(*seen)
    assert [tree.attributes["torch.step"] for tree in captured.trees] == [0, 1, 2, 3]
    assert warnings(caplog) == []


@pytest.mark.parametrize("make", FUNCTIONS)
def test_without_there_are_no_steps_and_that_is_said(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    with capture_spans(WITHOUT_CAUSES) as captured:
        trained(make, by_hand=False)
    assert outline(captured) == ""
    assert warnings(caplog) == ([] if make is all_of_it else [NOTHING_CALLED])


def test_that_is_said_once_whatever_is_evaluated_between_and_makes_no_steps(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    train = forward_and_backward(model, sgd)
    with capture_spans(WITHOUT_CAUSES) as captured:
        for index in range(12):
            if index % 4 == 0:
                with torch.no_grad():
                    model(batch())
            train()
    assert outline(captured) == 3 * FORWARD
    assert warnings(caplog) == [NOTHING_CALLED]


NOTHING_CALLED_WITH_BATCHES = (
    "32 batches were fetched, and no module was called with them: what runs inside a compiled function is not "
    "seen. Compile modules, not a function around them, or say `with otel_torch_modules.step(index):` around "
    "each step of the loop"
)


def test_where_all_of_a_step_is_compiled_the_batches_tell(caplog: pytest.LogCaptureFixture) -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    train = all_of_it(model, sgd)
    with capture_spans(WITHOUT_CAUSES) as captured:
        for _ in loader(50):
            train()
    assert outline(captured) == ""
    assert warnings(caplog) == [NOTHING_CALLED_WITH_BATCHES]


def trains_seldom(model: nn.Module, sgd: torch.optim.SGD, index: int) -> None:
    model(batch()).sum().backward()
    if index % 40 == 39:
        sgd.step()
        sgd.zero_grad()


def evaluates(model: nn.Module, _: torch.optim.SGD, __: int) -> None:
    with torch.no_grad():
        model(batch())


def is_by_hand(_: nn.Module, __: torch.optim.SGD, index: int) -> None:
    with manual_step(index):
        pass


def evaluates_elsewhere(model: nn.Module, _: torch.optim.SGD, __: int) -> None:
    thread = threading.Thread(target=model, args=(batch(),))
    thread.start()
    thread.join()


@pytest.mark.parametrize("use", [trains_seldom, evaluates, evaluates_elsewhere, is_by_hand])
@pytest.mark.parametrize(
    "config",
    [
        WITHOUT_CAUSES,
        Config(causes=(), schedule=Schedule(wait=9, active=1)),
        Config(causes=(), phases=("eval",)),
        Config(causes=(), phases=("train",)),
        Config(causes=(), detail_ranks="1"),
    ],
)
def test_nothing_is_said_of_batches_with_which_modules_are_called(
    use: Callable[[nn.Module, torch.optim.SGD, int], None],
    config: Config,
    caplog: pytest.LogCaptureFixture,
) -> None:
    torch.compile(lambda x: x * 2, backend="eager")(torch.ones(1))  # something is compiled
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans(config):
        for index, _ in enumerate(loader(80)):
            use(model, sgd, index)
    assert warnings(caplog) == []


def test_nothing_is_said_of_batches_where_nothing_is_compiled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    torch._dynamo.utils.clear_compilation_metrics()  # of other tests
    with capture_spans(WITHOUT_CAUSES):
        for _ in loader(80):
            pass
    assert warnings(caplog) == []


def test_what_was_compiled_in_a_step_without_phases_is_in_it() -> None:
    with capture_spans(Config(causes=("compile",))) as captured:
        trained(all_of_it, by_hand=True)
    first, *others = captured.trees
    assert {span.name for span in first.walk()} == {"train.step", "compile"}
    assert {span.name for tree in others[1:] for span in tree.walk()} == {"train.step"}


def test_marks_in_a_function_show_modules_of_which_it_is_known_when_they_begin() -> None:
    """A graph's first one is not shown, for nothing tells when a compiled function is called."""
    with capture_spans(Config(causes=(), compiled_marks=("*.h.*",))) as captured:
        mark = torch.ops.otel_torch_modules.mark.default
        for index in range(4):
            with manual_step(index):
                x = torch.ones(2, requires_grad=True)
                for border in ("h.0|h.1", "h.1|h.2", "h.2|"):
                    mark(x, f"{border}|forward")
                y = x * 2

                def hook(gradient: Tensor) -> None:
                    for border in ("h.2|h.1", "h.1|h.0", "h.0|"):
                        mark(gradient, f"{border}|backward")

                y.register_hook(hook)
                y.sum().backward()
    backward = "backward\n  backward h.1\n  backward h.0\n"
    assert outline(captured) == 4 * step("forward h.1\n", "forward h.2\n", backward)
    (span,) = captured.trees[-1].find("forward h.1")
    assert span.attributes["torch.module.fqn"] == "h.1"
