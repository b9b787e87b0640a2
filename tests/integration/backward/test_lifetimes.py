"""Backwards that come late, from elsewhere, or through more than one model."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import torch
from torch import Tensor, nn

from otel_torch_modules.testing import capture_spans
from tests.integration.backward.block import Block
from tests.integration.backward.drawing import draw, drawing_of_a_step, tree


class Criterion(nn.Module):
    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        return (output - target).square().mean()


def in_another_thread(function: Any) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def test_backward_from_another_thread() -> None:
    model = Block()
    with capture_spans() as captured:
        in_another_thread(model(torch.randn(3, 4)).sum().backward)
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


def test_forwards_in_two_threads_and_one_backward() -> None:
    left, right = Block(), nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    losses = []
    with capture_spans() as captured:
        losses.append(left(torch.randn(3, 4)).sum())
        in_another_thread(lambda: losses.append(right(torch.randn(3, 4)).sum()))
        losses[1].backward()
        losses[0].backward()
    assert draw(captured) == tree("""
        train.step
          forward Block ->
            forward first ->
            forward act ->
            forward second ->
          forward Sequential ->
            forward 0 ->
            forward 1 ->
          backward
            backward Sequential <- forward
              backward 1 <- forward
              backward 0 <- forward
          backward
            backward Block <- forward
              backward second <- forward
              backward act <- forward
              backward first <- forward
    """)


def test_a_module_deleted_before_backward() -> None:
    model = nn.Sequential(nn.Linear(4, 4), Block())
    gone = weakref.ref(model[1])
    with capture_spans() as captured:
        loss = model(torch.randn(3, 4)).sum()
        del model
        gc.collect()
        assert gone() is None
        loss.backward()
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


def test_a_model_and_a_criterion() -> None:
    model, criterion = Block(), Criterion()
    with capture_spans() as captured:
        criterion(model(torch.randn(3, 4)), torch.zeros(3, 4)).backward()
    assert draw(captured) == tree("""
        train.step
          forward Block ->
            forward first ->
            forward act ->
            forward second ->
          forward Criterion ->
          backward
            backward Criterion <- forward
            backward Block <- forward
              backward second <- forward
              backward act <- forward
              backward first <- forward
    """)


def test_one_backward_through_two_models_on_the_same_data() -> None:
    left, right = Block(), nn.Linear(4, 4)
    x = torch.randn(3, 4)
    with capture_spans() as captured:
        (left(x) * right(x)).sum().backward()
    assert draw(captured) == tree("""
        train.step
          forward Block ->
            forward first ->
            forward act ->
            forward second ->
          forward Linear ->
          backward
            backward Linear <- forward
            backward Block <- forward
              backward second <- forward
              backward act <- forward
              backward first <- forward
    """)


def test_a_backward_through_a_forward_of_the_step_before() -> None:
    class Generator(Block):
        pass

    class Discriminator(Block):
        pass

    generator, discriminator = Generator(), Discriminator()
    generator_optimizer = torch.optim.SGD(generator.parameters())
    discriminator_optimizer = torch.optim.SGD(discriminator.parameters())
    with capture_spans() as captured:
        fake = generator(torch.randn(3, 4))
        discriminator(fake.detach()).sum().backward()
        discriminator_optimizer.step()
        discriminator(fake).sum().backward()
        generator_optimizer.step()
    assert draw(captured) == tree("""
        train.step
          forward Generator ->
            forward first ->
            forward act ->
            forward second ->
          forward Discriminator ->
            forward first ->
            forward act ->
            forward second ->
          backward
            backward Discriminator <- forward
              backward second <- forward
              backward act <- forward
              backward first <- forward
          optimizer.step SGD
        train.step
          forward Discriminator ->
            forward first ->
            forward act ->
            forward second ->
          backward
            backward Discriminator <- forward
              backward second <- forward
              backward act <- forward
              backward first <- forward
            backward Generator <- earlier forward
              backward second <- earlier forward
              backward act <- earlier forward
              backward first <- earlier forward
          optimizer.step SGD
    """)


def test_a_backward_through_a_forward_of_long_ago_is_counted_and_not_guessed() -> None:
    model, other = Block(), nn.Linear(4, 1)
    optimizer = torch.optim.SGD(other.parameters())
    with capture_spans() as captured:
        kept = model(torch.randn(3, 4)).sum()
        for _ in range(3):
            other(torch.randn(3, 4)).sum().backward()
            optimizer.step()
        kept.backward()
    assert draw(captured) == tree("""
        train.step
          forward Block ->
            forward first ->
            forward act ->
            forward second ->
          forward Linear ->
          backward
            backward Linear <- forward
          optimizer.step SGD
        train.step
          forward Linear ->
          backward
            backward Linear <- forward
          optimizer.step SGD
        train.step
          forward Linear ->
          backward
            backward Linear <- forward
          optimizer.step SGD
          backward
    """)


def test_a_backward_inside_a_forward() -> None:
    class Inner(nn.Module):
        """Adapts a copy of its weights by a gradient step, as in meta learning."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)
            self.loss = Criterion()

        def forward(self, x: Tensor) -> Tensor:
            loss = self.loss(self.layer(x), x)
            gradients = torch.autograd.grad(loss, list(self.parameters()), create_graph=True)
            adapted = [p - 0.1 * g for p, g in zip(self.parameters(), gradients, strict=True)]
            return nn.functional.linear(x, *adapted)

    model = nn.Sequential(nn.Linear(4, 4), Inner(), nn.Linear(4, 1))
    assert drawing_of_a_step(model, 3, 4) == tree("""
        train.step
          forward Sequential ->
            forward 0 ->
            forward 1 ->
              forward layer ->
              forward loss ->
              backward
                backward Sequential <- forward
                  backward 1 <- forward
                    backward loss <- forward
                    backward layer <- forward
            forward 2 ->
          backward
            backward Sequential <- forward
              backward 2 <- forward
              backward 1 <- forward
                backward layer <- forward
              backward 0 <- forward
    """)


def test_a_backward_inside_a_checkpointed_forward() -> None:
    class Energy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 1)
            self.act = nn.Tanh()

        def forward(self, x: Tensor) -> Tensor:
            x = x.detach().requires_grad_()
            energy = self.act(self.layer(x)).sum()
            return torch.autograd.grad(energy, x, create_graph=True)[0]

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.energy = Energy()
            self.out = nn.Linear(4, 1)

        def forward(self, x: Tensor) -> Tensor:
            force = torch.utils.checkpoint.checkpoint(self.energy, x, use_reentrant=False)
            return self.out(force)

    model = Model()
    assert drawing_of_a_step(model, 3, 4) == tree("""
        train.step
          forward Model ->
            forward energy ->
              forward layer ->
              forward act ->
              backward
                backward Model <- forward
                  backward energy <- forward
                    recompute energy
                      recompute layer
                      recompute act
                    backward act <- forward
                    backward layer <- forward
            forward out ->
          backward
            backward Model <- forward
              backward out <- forward
              backward energy <- forward
                recompute energy
                  recompute layer
                  recompute act
                  backward
                    backward energy <- recompute
                      backward act <- recompute
                      backward layer <- recompute
                backward act <- forward
                backward layer <- forward
    """)


def test_an_optimizer_that_steps_as_soon_as_a_gradient_is_ready() -> None:
    model = Block()
    optimizers = {p: torch.optim.SGD([p]) for p in model.parameters()}
    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(lambda p: optimizers[p].step())
    with capture_spans() as captured:
        for _ in range(2):
            model(torch.randn(3, 4)).sum().backward()
    assert draw(captured) == tree("""
        train.step
          forward Block ->
            forward first ->
            forward act ->
            forward second ->
          backward
            backward Block <- forward
              backward second <- forward
                optimizer.step SGD
                optimizer.step SGD
              backward act <- forward
              backward first <- forward
                optimizer.step SGD
                optimizer.step SGD
        train.step
          forward Block ->
            forward first ->
            forward act ->
            forward second ->
          backward
            backward Block <- forward
              backward second <- forward
                optimizer.step SGD
                optimizer.step SGD
              backward act <- forward
              backward first <- forward
                optimizer.step SGD
                optimizer.step SGD
    """)


def test_a_forward_in_a_hook_of_a_gradient() -> None:
    model, probe = Block(), nn.Linear(4, 4)
    with capture_spans() as captured:
        out = model(torch.randn(3, 4))
        out.register_hook(lambda gradient: probe(gradient).detach())
        out.sum().backward()
    assert draw(captured) == tree("""
        train.step
          forward Block ->
            forward first ->
            forward act ->
            forward second ->
          backward
            backward Block <- forward
              backward second <- forward
                recompute Linear
              backward act <- forward
              backward first <- forward
    """)
