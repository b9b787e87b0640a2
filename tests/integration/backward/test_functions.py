"""Custom ``autograd.Function``, and exceptions in it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from otel_torch_modules.testing import capture_spans
from tests.integration.backward.drawing import draw, drawing_of_a_step, tree


class Scale(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x * factor

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.factor, None


class Failing(torch.autograd.Function):
    armed = False

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        if Failing.armed:
            raise ArithmeticError("no gradient")
        return gradient


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return Scale.apply(self.inner(Scale.apply(x, 2.0)), 3.0)


class Fragile(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return Failing.apply(self.inner(x))


def test_a_custom_function_belongs_to_the_module_that_applies_it() -> None:
    model = nn.Sequential(nn.Linear(4, 4), Scaled(), nn.Linear(4, 1))
    assert drawing_of_a_step(model, 3, 4) == tree("""
        train.step
          forward Sequential ->
            forward 0 ->
            forward 1 ->
              forward inner ->
            forward 2 ->
          backward
            backward Sequential <- forward
              backward 2 <- forward
              backward 1 <- forward
                backward inner <- forward
              backward 0 <- forward
    """)


def test_a_custom_function_of_what_needs_no_gradient_records_no_node() -> None:
    model = nn.Sequential(Scaled().requires_grad_(False), nn.Linear(4, 1))
    with capture_spans() as captured:
        model(torch.randn(3, 4)).sum().backward()
        with torch.no_grad():
            model(torch.randn(3, 4))
    assert draw(captured) == tree("""
        train.step
          forward Sequential ->
            forward 0
              forward inner
            forward 1 ->
          backward
            backward Sequential <- forward
              backward 1 <- forward
          forward Sequential#1
            forward 0
              forward inner
            forward 1
    """)


def test_a_custom_function_that_computes_gradients_inside() -> None:
    class Implicit(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, layer: nn.Module) -> Tensor:
            with torch.enable_grad():
                ctx.x = x.detach().requires_grad_()
                ctx.y = layer(ctx.x)
            return ctx.y.detach()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
            ctx.y.backward(gradient)
            return ctx.x.grad, None

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Linear(4, 4)
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return Implicit.apply(self.stem(x), self.layer)

    model = Model()
    assert drawing_of_a_step(model, 3, 4) == tree("""
        train.step
          forward Model ->
            forward stem ->
            forward layer ->
          backward
            backward Model <- forward
              backward
                backward Model <- forward
                  backward layer <- forward
              backward stem <- forward
    """)


def test_an_exception_in_backward_ends_what_is_open_and_the_next_step_is_whole() -> None:
    model = nn.Sequential(nn.Linear(4, 4), Fragile(), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters())
    Failing.armed = True
    with capture_spans() as captured:
        with pytest.raises(ArithmeticError, match="no gradient"):
            model(torch.randn(3, 4)).sum().backward()
        Failing.armed = False
        model(torch.randn(3, 4)).sum().backward()
        optimizer.step()
    assert draw(captured) == tree("""
        train.step !
          forward Sequential ->
            forward 0 ->
            forward 1 ->
              forward inner ->
            forward 2 ->
          backward !
            backward Sequential <- forward !
              backward 2 <- forward
              backward 1 <- forward !
        train.step
          forward Sequential ->
            forward 0 ->
            forward 1 ->
              forward inner ->
            forward 2 ->
          backward
            backward Sequential <- forward
              backward 2 <- forward
              backward 1 <- forward
                backward inner <- forward
              backward 0 <- forward
          optimizer.step SGD
    """)


def test_an_exception_in_backward_that_the_program_survives_within_a_step() -> None:
    model = nn.Sequential(nn.Linear(4, 4), Fragile(), nn.Linear(4, 1))
    Failing.armed = True

    class Retry(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model
            self.after = nn.Linear(1, 1)

        def forward(self, x: Tensor) -> Tensor:
            with pytest.raises(ArithmeticError):
                self.model(x).sum().backward()
            Failing.armed = False
            return self.after(self.model(x))

    retry = Retry()
    assert drawing_of_a_step(retry, 3, 4) == tree("""
        train.step !
          forward Retry ->
            forward model ->
              forward model.0 ->
              forward model.1 ->
                forward inner ->
              forward model.2 ->
            backward !
              backward Retry <- forward !
                backward model <- forward !
                  backward model.2 <- forward
                  backward model.1 <- forward !
            forward model#1 ->
              forward model.0 ->
              forward model.1 ->
                forward inner ->
              forward model.2 ->
            forward after ->
          backward
            backward Retry <- forward
              backward after <- forward
              backward model#1 <- forward
                backward model.2 <- forward
                backward model.1 <- forward
                  backward inner <- forward
                backward model.0 <- forward
    """)


def test_an_exception_in_a_tensor_hook() -> None:
    class Hooked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.inner(x)
            x.register_hook(self.refuse)
            return x * 2

        def refuse(self, gradient: Tensor) -> None:
            raise ArithmeticError("no gradient")

    model = nn.Sequential(nn.Linear(4, 4), Hooked())
    with capture_spans() as captured, pytest.raises(ArithmeticError):
        model(torch.randn(3, 4)).sum().backward()
    assert draw(captured) == tree("""
        train.step !
          forward Sequential ->
            forward 0 ->
            forward 1 ->
              forward inner ->
          backward !
            backward Sequential <- forward !
              backward 1 <- forward !
                backward inner <- forward !
    """)
