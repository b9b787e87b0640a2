"""What needs no gradient, what the loss does not use, and the other ways to ask for gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from otel_torch_modules.testing import capture_spans
from tests.integration.backward.block import Block
from tests.integration.backward.drawing import draw, drawing_of_a_step, tree


def test_frozen_modules_before_the_trained_ones() -> None:
    model = nn.Sequential(Block().requires_grad_(False), nn.Linear(4, 4), nn.Linear(4, 1))
    assert drawing_of_a_step(model, 3, 4) == tree("""
        train.step
          forward Sequential ->
            forward 0
              forward first
              forward act
              forward second
            forward 1 ->
            forward 2 ->
          backward
            backward Sequential <- forward
              backward 2 <- forward
              backward 1 <- forward
    """)


def test_frozen_modules_after_the_trained_ones_pass_gradients_on() -> None:
    model = nn.Sequential(nn.Linear(4, 4), Block().requires_grad_(False), nn.Linear(4, 1))
    assert drawing_of_a_step(model, 3, 4) == tree("""
        train.step
          forward Sequential ->
            forward 0 ->
            forward 1 ->
              forward first ->
              forward act ->
              forward second ->
            forward 2 ->
          backward
            backward Sequential <- forward
              backward 2 <- forward
              backward 1 <- forward
                backward second <- forward
                backward act <- forward
                backward first <- forward
              backward 0 <- forward
    """)


def test_an_input_that_needs_a_gradient() -> None:
    model = Block().requires_grad_(False)
    x = torch.randn(3, 4, requires_grad=True)
    with capture_spans() as captured:
        model(x).sum().backward()
    assert draw(captured) == tree("""
        train.step
          forward Block ->
            forward first ->
            forward act ->
            forward second ->
          backward
            backward Block <- forward
              backward second <- forward
              backward act <- forward
              backward first <- forward
    """)


def test_nothing_needs_a_gradient() -> None:
    model = Block().requires_grad_(False)
    with capture_spans() as captured:
        model(torch.randn(3, 4))
    assert draw(captured) == tree("""
        train.step
          forward Block
            forward first
            forward act
            forward second
    """)


def test_a_part_of_the_model_under_no_grad() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.teacher = Block()
            self.student = Block()

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                target = self.teacher(x)
            return (self.student(x) - target).square().sum()

    model = Model()
    with capture_spans() as captured:
        model(torch.randn(3, 4)).backward()
    assert draw(captured) == tree("""
        train.step
          forward Model ->
            forward teacher
              forward first
              forward act
              forward second
            forward student ->
              forward first ->
              forward act ->
              forward second ->
          backward
            backward Model <- forward
              backward student <- forward
                backward second <- forward
                backward act <- forward
                backward first <- forward
    """)


def test_a_gradient_stopped_in_the_middle() -> None:
    class Stopped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.below = Block()
            self.above = nn.Linear(4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.above(self.below(x).detach())

    model = Stopped()
    assert drawing_of_a_step(model, 3, 4) == tree("""
        train.step
          forward Stopped ->
            forward below ->
              forward first ->
              forward act ->
              forward second ->
            forward above ->
          backward
            backward Stopped <- forward
              backward above <- forward
    """)


def test_an_output_that_the_loss_does_not_use() -> None:
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = nn.Linear(4, 4)
            self.used = nn.Linear(4, 1)
            self.unused = nn.Linear(4, 1)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            x = self.trunk(x)
            return self.used(x), self.unused(x)

    model = Heads()
    with capture_spans() as captured:
        model(torch.randn(3, 4))[0].sum().backward()
    assert draw(captured) == tree("""
        train.step
          forward Heads ->
            forward trunk ->
            forward used ->
            forward unused ->
          backward
            backward Heads <- forward
              backward used <- forward
              backward trunk <- forward
    """)


def test_autograd_grad_with_respect_to_leaves() -> None:
    model = nn.Sequential(nn.Linear(4, 4), Block(), nn.Linear(4, 1))
    with capture_spans() as captured:
        loss = model(torch.randn(3, 4)).sum()
        torch.autograd.grad(loss, list(model.parameters()))
    assert draw(captured) == tree("""
        train.step
          forward Sequential ->
            forward 0 ->
            forward 1 ->
              forward first ->
              forward act ->
              forward second ->
            forward 2 ->
          backward
            backward Sequential <- forward
              backward 2 <- forward
              backward 1 <- forward
                backward second <- forward
                backward act <- forward
                backward first <- forward
              backward 0 <- forward
    """)


def test_autograd_grad_with_respect_to_the_last_leaf_only() -> None:
    model = nn.Sequential(nn.Linear(4, 4), Block(), nn.Linear(4, 1))
    with capture_spans() as captured:
        loss = model(torch.randn(3, 4)).sum()
        torch.autograd.grad(loss, model[2].weight)
    assert draw(captured) == tree("""
        train.step
          forward Sequential ->
            forward 0 ->
            forward 1 ->
              forward first ->
              forward act ->
              forward second ->
            forward 2 ->
          backward
            backward Sequential <- forward
              backward 2 <- forward
    """)


def test_autograd_grad_with_respect_to_the_input() -> None:
    model = nn.Sequential(nn.Linear(4, 4), Block())
    x = torch.randn(3, 4, requires_grad=True)
    with capture_spans() as captured:
        torch.autograd.grad(model(x).sum(), x)
    assert draw(captured) == tree("""
        train.step
          forward Sequential ->
            forward 0 ->
            forward 1 ->
              forward first ->
              forward act ->
              forward second ->
          backward
            backward Sequential <- forward
              backward 1 <- forward
                backward second <- forward
                backward act <- forward
                backward first <- forward
              backward 0 <- forward
    """)


def test_autograd_grad_with_respect_to_an_intermediate() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.below = Block()
            self.above = Block()

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            middle = self.below(x)
            return middle, self.above(middle)

    model = Model()
    with capture_spans() as captured:
        middle, out = model(torch.randn(3, 4))
        (gradient,) = torch.autograd.grad(out.sum(), middle)
        middle.backward(gradient)
    assert draw(captured) == tree("""
        train.step
          forward Model ->
            forward below ->
              forward first ->
              forward act ->
              forward second ->
            forward above ->
              forward first ->
              forward act ->
              forward second ->
          backward
            backward Model <- forward
              backward above <- forward
                backward second <- forward
                backward act <- forward
                backward first <- forward
          backward
            backward Model <- forward
              backward below <- forward
                backward second <- forward
                backward act <- forward
                backward first <- forward
    """)


def test_double_backward() -> None:
    model = nn.Sequential(nn.Linear(4, 4), Block())
    x = torch.randn(3, 4, requires_grad=True)
    with capture_spans() as captured:
        (gradient,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
        gradient.square().sum().backward()
    assert draw(captured) == tree("""
        train.step
          forward Sequential ->
            forward 0 ->
            forward 1 ->
              forward first ->
              forward act ->
              forward second ->
          backward
            backward Sequential <- forward
              backward 1 <- forward
                backward second <- forward
                backward act <- forward
                backward first <- forward
              backward 0 <- forward
          backward
            backward Sequential <- forward
              backward 1 <- forward
                backward act <- forward
                backward first <- forward
              backward 0 <- forward
    """)


def test_two_backwards_of_one_forward() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    with capture_spans() as captured:
        out = model(torch.randn(3, 4))
        out.sum().backward(retain_graph=True)
        out.square().sum().backward()
    assert draw(captured) == tree("""
        train.step
          forward Sequential ->
            forward 0 ->
            forward 1 ->
          backward
            backward Sequential <- forward
              backward 1 <- forward
              backward 0 <- forward
          backward
            backward Sequential <- forward
              backward 1 <- forward
              backward 0 <- forward
    """)


@pytest.mark.parametrize("order", ["as they came", "in reverse"])
def test_backwards_of_several_forwards(order: str) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    with capture_spans() as captured:
        losses = [model(torch.randn(3, 4)).sum() for _ in range(2)]
        for loss in losses if order == "as they came" else losses[::-1]:
            loss.backward()
    first, second = ("#1", "") if order == "in reverse" else ("", "#1")
    assert draw(captured) == tree(f"""
        train.step
          forward Sequential ->
            forward 0 ->
            forward 1 ->
          forward Sequential#1 ->
            forward 0 ->
            forward 1 ->
          backward
            backward Sequential{first} <- forward
              backward 1 <- forward
              backward 0 <- forward
          backward
            backward Sequential{second} <- forward
              backward 1 <- forward
              backward 0 <- forward
    """)


def test_one_backward_through_two_forwards() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    with capture_spans() as captured:
        (model(torch.randn(3, 4)).sum() + model(torch.randn(3, 4)).sum()).backward()
    assert draw(captured) == tree("""
        train.step
          forward Sequential ->
            forward 0 ->
            forward 1 ->
          forward Sequential#1 ->
            forward 0 ->
            forward 1 ->
          backward
            backward Sequential#1 <- forward
              backward 1 <- forward
              backward 0 <- forward
            backward Sequential <- forward
              backward 1 <- forward
              backward 0 <- forward
    """)


def test_a_forward_whose_backward_never_comes() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    optimizer = torch.optim.SGD(model.parameters())
    with capture_spans() as captured:
        model(torch.randn(3, 4))
        for _ in range(2):
            model(torch.randn(3, 4)).sum().backward()
            optimizer.step()
    assert draw(captured) == tree("""
        forward Sequential ->
          forward 0 ->
          forward 1 ->
        train.step
          forward Sequential ->
            forward 0 ->
            forward 1 ->
          backward
            backward Sequential <- forward
              backward 1 <- forward
              backward 0 <- forward
          optimizer.step SGD
        train.step
          forward Sequential ->
            forward 0 ->
            forward 1 ->
          backward
            backward Sequential <- forward
              backward 1 <- forward
              backward 0 <- forward
          optimizer.step SGD
    """)
