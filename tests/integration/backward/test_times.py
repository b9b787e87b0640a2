"""Each span lasts as long as what it stands for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from otel_torch_modules.testing import capture_spans
from tests.integration.backward.drawing import tree
from tests.integration.backward.known_work import UnsavedWork, Work, durations
from tests.support.passing_time import Clock

MS = 1_000_000


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def plain(module: nn.Module, x: Tensor) -> Tensor:
    return module(x)


def not_reentrant(module: nn.Module, x: Tensor) -> Tensor:
    return checkpoint(module, x, use_reentrant=False)


def reentrant(module: nn.Module, x: Tensor) -> Tensor:
    return checkpoint(module, x, use_reentrant=True)


class Block(nn.Module):
    """Works itself before, between and after its children."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.first = Work(clock, 1, 10)
        self.second = Work(clock, 2, 20)
        self.own = Work(clock, 4, 40)

    def forward(self, x: Tensor) -> Tensor:
        x = self.own.forward(x)
        x = self.first(x)
        x = self.own.forward(x)
        x = self.second(x)
        return self.own.forward(x)


class Model(nn.Module):
    def __init__(self, clock: Clock, call: Callable[[nn.Module, Tensor], Tensor] = plain) -> None:
        super().__init__()
        self.stem = Work(clock, 100, 1000)
        self.block = Block(clock)
        self.head = Work(clock, 200, 2000)
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.call(self.block, self.stem(x)))


def test_forward_and_backward_last_what_their_modules_take(clock: Clock) -> None:
    model = Model(clock)
    with capture_spans() as captured:
        model(torch.ones(3)).sum().backward()
    assert durations(captured) == tree("""
        train.step: 3465, 0 own
          forward Model: 315, 0 own
            forward stem: 100
            forward block: 15, 12 own
              forward first: 1
              forward second: 2
            forward head: 200
          backward: 3150, 0 own
            backward Model: 3150, 0 own
              backward head: 2000
              backward block: 150, 120 own
                backward second: 20
                backward first: 10
              backward stem: 1000
    """)


def test_checkpointing_not_reentrant(clock: Clock) -> None:
    model = Model(clock, not_reentrant)
    with capture_spans() as captured:
        model(torch.ones(3)).sum().backward()
    assert durations(captured) == tree("""
        train.step: 3480, 0 own
          forward Model: 315, 0 own
            forward stem: 100
            forward block: 15, 12 own
              forward first: 1
              forward second: 2
            forward head: 200
          backward: 3165, 0 own
            backward Model: 3165, 0 own
              backward head: 2000
              backward block: 165, 120 own
                recompute block: 15, 12 own
                  recompute first: 1
                  recompute second: 2
                backward second: 20
                backward first: 10
              backward stem: 1000
    """)


def test_checkpointing_reentrant(clock: Clock) -> None:
    model = Model(clock, reentrant)
    with capture_spans() as captured:
        model(torch.ones(3)).sum().backward()
    assert durations(captured) == tree("""
        train.step: 3480, 0 own
          forward Model: 315, 0 own
            forward stem: 100
            forward block: 15, 12 own
              forward first: 1
              forward second: 2
            forward head: 200
          backward: 3165, 0 own
            backward Model: 3165, 0 own
              backward head: 2000
              recompute block: 15, 12 own
                recompute first: 1
                recompute second: 2
              backward: 150, 0 own
                backward block: 150, 120 own
                  backward second: 20
                  backward first: 10
              backward stem: 1000
    """)


def test_a_checkpointed_function_of_several_modules(clock: Clock) -> None:
    class Pairs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = Work(clock, 100, 1000)
            self.first = Work(clock, 1, 10)
            self.second = Work(clock, 2, 20)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            return checkpoint(lambda y: self.second(self.first(y)), x, use_reentrant=False)

    model = Pairs()
    with capture_spans() as captured:
        model(torch.ones(3)).sum().backward()
    assert durations(captured) == tree("""
        train.step: 1136, 0 own
          forward Pairs: 103, 0 own
            forward stem: 100
            forward first: 1
            forward second: 2
          backward: 1033, 0 own
            backward Pairs: 1033, 0 own
              recompute first: 1
              recompute second: 2
              backward second: 20
              backward first: 10
              backward stem: 1000
    """)


def test_a_checkpoint_inside_a_checkpoint(clock: Clock) -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before = Work(clock, 1, 10)
            self.inner = nn.Sequential(Work(clock, 2, 20), Work(clock, 4, 40))

        def forward(self, x: Tensor) -> Tensor:
            return not_reentrant(self.inner, self.before(x))

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = Work(clock, 100, 1000)
            self.outer = Outer()

        def forward(self, x: Tensor) -> Tensor:
            return not_reentrant(self.outer, self.stem(x))

    model = Whole()
    with capture_spans() as captured:
        model(torch.ones(3)).sum().backward()
    assert durations(captured) == tree("""
        train.step: 1184, 0 own
          forward Whole: 107, 0 own
            forward stem: 100
            forward outer: 7, 0 own
              forward before: 1
              forward inner: 6, 0 own
                forward inner.0: 2
                forward inner.1: 4
          backward: 1077, 0 own
            backward Whole: 1077, 0 own
              backward outer: 77, 0 own
                recompute outer: 1, 0 own
                  recompute before: 1
                backward inner: 66, 0 own
                  recompute inner: 6, 0 own
                    recompute inner.0: 2
                    recompute inner.1: 4
                  backward inner.1: 40
                  backward inner.0: 20
                backward before: 10
              backward stem: 1000
    """)


class Deep(nn.Module):
    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.first = Work(clock, 1, 10)
        self.tail = nn.Sequential(Work(clock, 2, 20), UnsavedWork(clock, 4, 40), nn.Flatten())

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.first(x)) * 2


def test_work_done_before_anything_saved_is_needed(clock: Clock) -> None:
    model = Model(clock, not_reentrant)
    model.block = Deep(clock)  # type: ignore[assignment]
    with capture_spans() as captured:
        model(torch.ones(3, 1, 1)).sum().backward()
    assert durations(captured) == tree("""
        train.step: 3380, 0 own
          forward Model: 307, 0 own
            forward stem: 100
            forward block: 7, 0 own
              forward first: 1
              forward tail: 6, 0 own
                forward tail.0: 2
                forward tail.1: 4
                forward tail.2: 0
            forward head: 200
          backward: 3073, 0 own
            backward Model: 3073, 0 own
              backward head: 2000
              backward block: 73, 0 own
                recompute block: 3, 0 own
                  recompute first: 1
                  recompute tail: 2, 0 own
                    recompute tail.0: 2
                    recompute tail.1: 0
                backward tail: 60, 0 own
                  backward tail.2: 0
                  backward tail.1: 40
                  backward tail.0: 20
                backward first: 10
              backward stem: 1000
    """)


def test_work_done_before_anything_saved_is_needed_reentrant(clock: Clock) -> None:
    model = Model(clock, reentrant)
    model.block = Deep(clock)  # type: ignore[assignment]
    with capture_spans() as captured:
        model(torch.ones(3, 1, 1)).sum().backward()
    assert durations(captured) == tree("""
        train.step: 3384, 0 own
          forward Model: 307, 0 own
            forward stem: 100
            forward block: 7, 0 own
              forward first: 1
              forward tail: 6, 0 own
                forward tail.0: 2
                forward tail.1: 4
                forward tail.2: 0
            forward head: 200
          backward: 3077, 0 own
            backward Model: 3077, 0 own
              backward head: 2000
              recompute block: 7, 0 own
                recompute first: 1
                recompute tail: 6, 0 own
                  recompute tail.0: 2
                  recompute tail.1: 4
                  recompute tail.2: 0
              backward: 70, 0 own
                backward block: 70, 0 own
                  backward tail: 60, 0 own
                    backward tail.2: 0
                    backward tail.1: 40
                    backward tail.0: 20
                  backward first: 10
              backward stem: 1000
    """)


def test_branches(clock: Clock) -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = Work(clock, 1, 10)
            self.left = Work(clock, 2, 20)
            self.right = Work(clock, 4, 40)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            return x + self.left(x) + self.right(x)

    model = Branches()
    with capture_spans() as captured:
        model(torch.ones(3)).sum().backward()
    assert durations(captured) == tree("""
        train.step: 77, 0 own
          forward Branches: 7, 0 own
            forward stem: 1
            forward left: 2
            forward right: 4
          backward: 70, 0 own
            backward Branches: 70, 0 own
              backward right: 40
              backward left: 20
              backward stem: 10
    """)


def test_what_a_caller_does_with_a_view_before_an_operation_in_place_is_its_own(
    clock: Clock,
) -> None:
    class Viewed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = Work(clock, 1, 10)
            self.own = Work(clock, 2, 20)
            self.act = nn.Hardtanh(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            x = self.own.forward(self.stem(x)) * 2
            return self.act(x.view(-1, 2))

    model = Viewed()
    with capture_spans() as captured:
        model(torch.ones(4)).sum().backward()
    assert durations(captured) == tree("""
        train.step: 33, 0 own
          forward Viewed: 3, 2 own
            forward stem: 1
            forward act: 0
          backward: 30, 0 own
            backward Viewed: 30, 20 own
              backward act: 0
              backward stem: 10
    """)


def test_parts_of_one_output(clock: Clock) -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.project = Work(clock, 1, 10)
            self.rotate = Work(clock, 2, 20)
            self.own = Work(clock, 4, 40)

        def forward(self, x: Tensor) -> Tensor:
            query, key, value = self.project(x).chunk(3)
            query, key = self.rotate(query), self.rotate(key)
            return self.own.forward(query * key + self.own.forward(value))

    model = Attention()
    with capture_spans() as captured:
        model(torch.ones(6)).sum().backward()
    assert durations(captured) == tree("""
        train.step: 143, 0 own
          forward Attention: 13, 8 own
            forward project: 1
            forward rotate: 2
            forward rotate: 2
          backward: 130, 0 own
            backward Attention: 130, 80 own
              backward rotate: 20
              backward rotate: 20
              backward project: 10
    """)


def test_an_exception_in_backward_ends_spans_when_it_is_raised(clock: Clock) -> None:
    class Failing(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x * 1

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            clock.sleep(7)
            raise ArithmeticError("no gradient")

    class Fragile(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return Failing.apply(x)

    model = nn.Sequential(Work(clock, 1, 10), Fragile(), Work(clock, 2, 20))
    with capture_spans() as captured:
        with pytest.raises(ArithmeticError):
            model(torch.ones(3)).sum().backward()
        clock.sleep(1000)
    assert durations(captured) == tree("""
        train.step: 30, 0 own
          forward Sequential: 3, 0 own
            forward 0: 1
            forward 1: 0
            forward 2: 2
          backward: 27, 0 own
            backward Sequential: 27, 0 own
              backward 2: 20
              backward 1: 7
    """)


def test_what_comes_after_the_last_module_is_the_backward_passes_own(clock: Clock) -> None:
    model = nn.Sequential(Work(clock, 1, 10), Work(clock, 2, 20))
    x = torch.ones(3, requires_grad=True)
    x.register_hook(lambda gradient: clock.sleep(5))
    with capture_spans() as captured:
        model(Work(clock, 3, 30).forward(x)).sum().backward()
    assert durations(captured) == tree("""
        train.step: 68, 0 own
          forward Sequential: 3, 0 own
            forward 0: 1
            forward 1: 2
          backward: 65, 35 own
            backward Sequential: 30, 0 own
              backward 1: 20
              backward 0: 10
    """)


def test_real_sleeps_show() -> None:
    class Real:
        def sleep(self, milliseconds: float) -> None:
            time.sleep(milliseconds / 1000)

    real: Any = Real()
    model = nn.Sequential(Work(real, 10, 30), Work(real, 20, 60))
    with capture_spans() as captured:
        model(torch.ones(3)).sum().backward()
    (step,) = captured.trees
    lasted = {span.name: span.end - span.start for span in step.walk()}
    assert lasted["forward 0"] >= 10 * MS
    assert lasted["forward 1"] >= 20 * MS
    assert lasted["backward 1"] >= 60 * MS
    assert lasted["backward 0"] >= 30 * MS
    assert lasted["forward Sequential"] >= lasted["forward 0"] + lasted["forward 1"]
    assert lasted["backward Sequential"] >= lasted["backward 0"] + lasted["backward 1"]
    # What the others slept is not in it, however slow the machine is.
    assert lasted["forward Sequential"] >= lasted["forward 0"] + 20 * MS
    assert lasted["backward Sequential"] >= lasted["backward 1"] + 30 * MS


class Region(torch.autograd.Function):
    """Returns its input, and works in backward: as tensor parallel layers gather gradients there."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, clock: Clock) -> Tensor:
        ctx.clock = clock
        return x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        ctx.clock.sleep(100)
        return gradient, None


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: (x, None)], ids=["lone", "in a tuple"])
@pytest.mark.parametrize("view", [lambda x: x, lambda x: x.view(3, 1)], ids=["itself", "a view"])
def test_a_function_that_returns_its_input_is_its_modules(
    clock: Clock, wrap: Callable[[Tensor], Any], view: Callable[[Tensor], Tensor]
) -> None:
    class Parallel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Work(clock, 1, 10)

        def forward(self, x: Tensor) -> Any:
            return wrap(Region.apply(view(self.inner(x)), clock))

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = Work(clock, 2, 20)
            self.parallel = Parallel()
            self.head = Work(clock, 4, 40)

        def forward(self, x: Tensor) -> Tensor:
            x = self.parallel(self.stem(x))
            return self.head(x if isinstance(x, Tensor) else x[0])

    model = Model()
    for _ in range(2):
        with capture_spans() as captured:
            model(torch.ones(3)).sum().backward()
        assert durations(captured) == tree("""
            train.step: 177, 0 own
              forward Model: 7, 0 own
                forward stem: 2
                forward parallel: 1, 0 own
                  forward inner: 1
                forward head: 4
              backward: 170, 0 own
                backward Model: 170, 0 own
                  backward head: 40
                  backward parallel: 110, 100 own
                    backward inner: 10
                  backward stem: 20
        """)
