"""Exceptions of the program pass through unchanged; their spans carry them; the next step is whole."""

from __future__ import annotations

import traceback
from collections.abc import Callable

import pytest
import torch
from opentelemetry.trace import StatusCode
from torch import Tensor, nn

from otel_torch_modules import Config
from otel_torch_modules.testing import CapturedSpan, capture_spans
from tests.support.small_training import (
    STEP,
    Net,
    batch,
    outline,
    step,
    train,
)


class OutOfMemoryError(RuntimeError):
    """An error of the program's own."""


class Raising(nn.Module):
    """Raises what it is given, in forward or in backward, once."""

    def __init__(self, error: BaseException | None, in_backward: bool = False) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.error = error
        self.in_backward = in_backward

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(x)
        if self.in_backward:
            x.register_hook(lambda _: self.fail())
        else:
            self.fail()
        return x

    def fail(self) -> None:
        error, self.error = self.error, None
        if error is not None:
            raise error


class Around(nn.Module):
    """Calls another module."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.inner(x))


def events(tree: CapturedSpan) -> dict[str, list[str]]:
    """Return the types of the exceptions on each span that has one."""
    return {
        span.name: [str((event.attributes or {})["exception.type"]) for event in span.span.events]
        for span in tree.walk()
        if span.span.events
    }


def failed(tree: CapturedSpan) -> list[str]:
    return [span.name for span in tree.walk() if span.span.status.status_code is StatusCode.ERROR]


WHOLE = """\
train.step
  forward Around
    forward inner
      forward fc
    forward act
  backward
    backward Around
      backward act
      backward inner
        backward fc
  optimizer.step SGD
"""
BROKEN = """\
train.step
  forward Around
    forward inner
      forward fc
"""
ERRORS: list[BaseException] = [
    OutOfMemoryError("too much"),
    KeyboardInterrupt(),
    SystemExit(3),
    GeneratorExit(),
    StopIteration(1),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_exception_in_forward_passes_through(error: BaseException) -> None:
    model = Around(Raising(error))
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans() as captured:
        with pytest.raises(type(error)) as caught:
            model(batch())
        for _ in range(2):
            train(model, sgd)
    assert caught.value is error
    assert error.__cause__ is None
    assert error.__context__ is None
    assert outline(captured) == BROKEN + 2 * WHOLE
    broken, *whole = captured.trees
    name = type(error).__name__
    if isinstance(error, OutOfMemoryError):
        name = f"{__name__}.{name}"
    assert failed(broken) == ["train.step", "forward Around", "forward inner"]
    assert events(broken) == {"forward inner": [name]}
    assert [failed(tree) for tree in whole] == [[], []]


class Nested(nn.Module):
    """Calls a module in one of several ways, and lets pass or raises anew what that raises."""

    def __init__(self, inner: nn.Module, way: str) -> None:
        super().__init__()
        self.inner = inner
        self.way = way

    def forward(self, x: Tensor) -> Tensor:
        try:
            return self.inner(x)
        except OutOfMemoryError as error:
            if self.way == "from":
                raise OutOfMemoryError("still too much") from error
            if self.way == "while handling":
                raise OutOfMemoryError("still too much")  # noqa: B904
            raise


@pytest.mark.parametrize("way", ["passes", "from", "while handling"])
@pytest.mark.parametrize("config", [Config(), Config(max_depth=2)])
def test_a_traceback_has_no_more_of_our_frames_than_of_one_call(way: str, config: Config) -> None:
    def frames() -> list[list[str]]:
        model: nn.Module = Raising(OutOfMemoryError("too much"))
        for depth in range(13):
            model = Nested(model, way if depth in (3, 8) else "passes")
        with pytest.raises(OutOfMemoryError) as caught:
            model(batch())
        found = []
        error: BaseException | None = caught.value
        while error is not None:
            found.append(
                [frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)]
            )
            error = error.__cause__ or error.__context__
        return found

    untraced = frames()
    with capture_spans(config):
        traced = frames()
    ours = [[name for name in names if name in OURS] for names in traced]
    theirs = [[name for name in names if name not in (*OURS, REPLACED)] for names in traced]
    assert theirs == [[name for name in names if name != REPLACED] for names in untraced]
    assert ours[0] == ["__call__", "_root_call"]
    assert all(len(names) <= 1 for names in ours[1:])


OURS = ("__call__", "_root_call", "record_call")
REPLACED = "_wrapped_call_impl"  # by ours, where nothing else is compiled in its place


def test_an_exception_caught_in_a_caller_marks_only_what_it_left() -> None:
    class Catching(Around):
        def forward(self, x: Tensor) -> Tensor:
            try:
                return self.inner(x)
            except OutOfMemoryError:
                return self.act(x)

    model = Catching(Raising(OutOfMemoryError("too much")))
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans() as captured:
        model(batch().requires_grad_()).sum().backward()
        sgd.step()
    expected = """\
train.step
  forward Catching
    forward inner
      forward fc
    forward act
  backward
    backward Catching
      backward act
  optimizer.step SGD
"""
    assert outline(captured) == expected
    assert failed(captured.trees[0]) == ["forward inner"]


@pytest.mark.parametrize(
    "error",
    [OutOfMemoryError("too much"), KeyboardInterrupt()],
    ids=lambda error: type(error).__name__,
)
def test_an_exception_in_backward_passes_through(error: BaseException) -> None:
    model = Around(Raising(error, in_backward=True))
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans() as captured:
        with pytest.raises(type(error)) as caught:
            model(batch()).sum().backward()
        for _ in range(2):
            train(model, sgd)
    assert caught.value is error
    trees = captured.trees
    assert [tree.outline() + "\n" for tree in trees[1:]] == 2 * [WHOLE]
    assert trees[0].outline().startswith(WHOLE.split("  backward\n")[0] + "  backward\n")
    assert "train.step" in failed(trees[0])
    assert "backward" in failed(trees[0])
    assert [failed(tree) for tree in trees[1:]] == [[], []]


@pytest.mark.parametrize(
    "config", [Config(exclude=("Raising",)), Config(max_depth=1), Config(max_spans_per_step=1)]
)
def test_an_exception_in_a_module_that_is_left_out(
    config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    error = OutOfMemoryError("too much")
    model = Around(Around(Raising(error)))
    calls: list[None] = []
    model.inner.inner.register_forward_pre_hook(lambda *_: calls.append(None))  # type: ignore[operator, union-attr]
    with capture_spans(config) as captured, pytest.raises(OutOfMemoryError) as caught:
        model(batch())
    assert caught.value is error
    assert calls == [None]
    assert [record.getMessage() for record in caplog.records] == []
    assert failed(captured.trees[0])[:2] == ["train.step", "forward Around"]


def test_an_exception_in_an_evaluation() -> None:
    model = Around(Raising(OutOfMemoryError("too much"))).eval()
    with capture_spans() as captured, torch.no_grad():
        with pytest.raises(OutOfMemoryError):
            model(batch())
        model(batch())
    broken, whole = captured.trees
    assert broken.outline() == "forward Around\n  forward inner\n    forward fc"
    assert whole.outline() == broken.outline() + "\n  forward act"
    assert failed(broken) == ["forward Around", "forward inner"]
    assert failed(whole) == []


def test_an_exception_in_an_optimizer() -> None:
    class Failing(torch.optim.SGD):
        fails = True

        def step(self, closure: object = None) -> None:  # type: ignore[override]
            if self.fails:
                raise OutOfMemoryError("too much")
            super().step()

    model = Net()
    sgd = Failing(model.parameters(), lr=0.01)
    with capture_spans() as captured:
        model(batch()).sum().backward()
        with pytest.raises(OutOfMemoryError):
            sgd.step()
        sgd.fails = False
        sgd.step()
        train(model, sgd)
    expected = STEP.replace("SGD", "Failing")
    assert outline(captured) == 2 * expected


def test_an_exception_in_the_closure_of_an_optimizer() -> None:
    model = Around(Raising(OutOfMemoryError("too much")))
    lbfgs = torch.optim.LBFGS(model.parameters(), lr=0.01, max_iter=1)

    def closure() -> Tensor:
        lbfgs.zero_grad()
        loss = model(batch()).sum()
        loss.backward()
        return loss

    with capture_spans() as captured:
        with pytest.raises(OutOfMemoryError):
            lbfgs.step(closure)
        for _ in range(2):
            lbfgs.step(closure)
    indented = [line for line in WHOLE.splitlines() if "optimizer" not in line]
    whole = "\n".join(
        [indented[0], "  optimizer.step LBFGS", *("  " + line for line in indented[1:])]
    )
    broken, *rest = captured.trees
    assert [tree.outline() for tree in rest] == [whole, whole]
    assert broken.outline() == "\n".join(whole.splitlines()[:5])
    assert "train.step" in failed(broken)


def test_an_exception_whose_text_cannot_be_had() -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise ValueError("no text")

    error = MuteError()
    model = Around(Raising(error))
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans() as captured:
        with pytest.raises(MuteError) as caught:
            model(batch())
        train(model, sgd)
    assert caught.value is error
    assert outline(captured) == BROKEN + WHOLE


WRONG: dict[str, Callable[[nn.Module], object]] = {
    "a name that is none": lambda model: model(batch(), nothing=1),
    "nothing": lambda model: model(),
    "too much": lambda model: model(batch(), batch()),
    "the module by name, alone": lambda model: nn.Module.__call__(self=model),
    "the module by name, too": lambda model: model(batch(), self=model),
    "the module by name, to a part": lambda model: nn.Sequential(Passing(model))(batch()),
    "no module": lambda _: nn.Module.__call__(),  # type: ignore[call-arg]
}


class Passing(Around):
    """Gives what it calls a name that is taken."""

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x, self=self)


@pytest.mark.parametrize("call", WRONG.values(), ids=WRONG)
def test_a_call_with_wrong_arguments_raises_as_without_us(
    call: Callable[[nn.Module], object],
) -> None:
    model = Net()
    with pytest.raises(TypeError) as expected:
        call(model)
    with capture_spans(), pytest.raises(TypeError) as traced:
        call(model)
    assert str(traced.value) == str(expected.value)
    assert traced.traceback[-1].name == expected.traceback[-1].name


def test_the_call_with_wrong_arguments_is_there() -> None:
    with capture_spans() as captured, pytest.raises(TypeError):
        Net()(batch(), nothing=1)
    assert outline(captured) == step("forward Net\n")


def test_recursion_without_end_is_an_error_of_the_program_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Endless(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stop = False

        def forward(self, x: Tensor) -> Tensor:
            return x if self.stop else self(x)

    model = Endless()
    with capture_spans() as captured:
        with pytest.raises(RecursionError):
            model(batch())
        net = Net()
        train(net, torch.optim.SGD(net.parameters(), lr=0.01))
    assert [record.getMessage() for record in caplog.records] == []
    assert captured.trees[-1].outline() + "\n" == STEP


class Unmade(nn.Module):
    def __init__(self) -> None:
        pass

    def forward(self, x: Tensor) -> Tensor:
        return x


class Trying(Around):
    """Calls what cannot be called before what can."""

    def forward(self, x: Tensor) -> Tensor:
        with pytest.raises(AttributeError):
            Unmade()(x)
        return super().forward(x)


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("config", [Config(), Config(detail_ranks="1")])  # this is rank 0
def test_a_call_of_what_is_not_made_yet_is_the_programs_error_alone(
    config: Config, enabled: bool, caplog: pytest.LogCaptureFixture
) -> None:
    model = Net()
    with capture_spans(config=config) as captured:
        train(model, torch.optim.SGD(model.parameters(), lr=0.01))
        with torch.set_grad_enabled(enabled), pytest.raises(AttributeError, match="has no"):
            Unmade()(batch())
        train(model, torch.optim.SGD(model.parameters(), lr=0.01))
    assert [tree.outline().split("\n")[0] for tree in captured.trees] == ["train.step"] * 2
    assert caplog.messages == []


def test_a_call_of_what_is_no_module_is_the_programs_error_alone() -> None:
    model = Trying(nn.Linear(4, 4))
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with pytest.raises(AttributeError) as untraced:
        Unmade()(batch())
    with capture_spans() as captured:
        for no_module in (Unmade(), object()):
            with pytest.raises(AttributeError) as caught:
                nn.Module.__call__(no_module, batch())
            assert "has no attribute" in str(caught.value)
        with pytest.raises(AttributeError) as traced:
            Unmade()(batch())
        for _ in range(2):
            train(model, sgd)
    assert str(traced.value) == str(untraced.value)
    assert outline(captured) == 2 * (
        "train.step\n"
        "  forward Trying\n    forward inner\n    forward act\n"
        "  backward\n    backward Trying\n      backward act\n      backward inner\n"
        "  optimizer.step SGD\n"
    )
