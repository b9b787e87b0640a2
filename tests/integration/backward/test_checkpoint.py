"""Activation checkpointing: what is recomputed hangs below the backward of the module that it recomputes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    checkpoint_sequential,
    create_selective_checkpoint_contexts,
)

from otel_torch_modules.testing import capture_spans
from tests.integration.backward.block import Block
from tests.integration.backward.drawing import draw, drawing_of_a_step, tree

again = functools.partial(checkpoint, use_reentrant=False)
again_reentrant = functools.partial(checkpoint, use_reentrant=True)


class Model(nn.Module):
    """Calls its blocks through `call`."""

    def __init__(self, call: Callable[..., Tensor]) -> None:
        super().__init__()
        self.stem = nn.Linear(4, 4)
        self.blocks = nn.ModuleList([Block(), Block()])
        self.head = nn.Linear(4, 1)
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = self.call(block, x)
        return self.head(x)


def test_modules_not_reentrant() -> None:
    assert drawing_of_a_step(Model(again), 2, 3, 4) == tree("""
        train.step
          forward Model ->
            forward stem ->
            forward blocks.0 ->
              forward first ->
              forward act ->
              forward second ->
            forward blocks.1 ->
              forward first ->
              forward act ->
              forward second ->
            forward head ->
          backward
            backward Model <- forward
              backward head <- forward
              backward blocks.1 <- forward
                recompute blocks.1
                  recompute first
                  recompute act
                  recompute second
                backward second <- forward
                backward act <- forward
                backward first <- forward
              backward blocks.0 <- forward
                recompute blocks.0
                  recompute first
                  recompute act
                  recompute second
                backward second <- forward
                backward act <- forward
                backward first <- forward
              backward stem <- forward
    """)


def test_modules_reentrant() -> None:
    assert drawing_of_a_step(Model(again_reentrant), 2, 3, 4) == tree("""
        train.step
          forward Model ->
            forward stem ->
            forward blocks.0
              forward first
              forward act
              forward second
            forward blocks.1
              forward first
              forward act
              forward second
            forward head ->
          backward
            backward Model <- forward
              backward head <- forward
              recompute blocks.1
                recompute first
                recompute act
                recompute second
              backward
                backward blocks.1 <- recompute
                  backward second <- recompute
                  backward act <- recompute
                  backward first <- recompute
              recompute blocks.0
                recompute first
                recompute act
                recompute second
              backward
                backward blocks.0 <- recompute
                  backward second <- recompute
                  backward act <- recompute
                  backward first <- recompute
              backward stem <- forward
    """)


def test_a_module_that_checkpoints_its_own_body() -> None:
    class Careful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Linear(4, 4)
            self.block = Block()

        def forward(self, x: Tensor) -> Tensor:
            return again(self.body, x)

        def body(self, x: Tensor) -> Tensor:
            return self.block(self.stem(x))

    model = nn.Sequential(nn.Linear(4, 4), Careful(), nn.Linear(4, 1))
    assert drawing_of_a_step(model, 2, 3, 4) == tree("""
        train.step
          forward Sequential ->
            forward 0 ->
            forward 1 ->
              forward stem ->
              forward block ->
                forward first ->
                forward act ->
                forward second ->
            forward 2 ->
          backward
            backward Sequential <- forward
              backward 2 <- forward
              backward 1 <- forward
                recompute stem
                recompute block
                  recompute first
                  recompute act
                  recompute second
                backward block <- forward
                  backward second <- forward
                  backward act <- forward
                  backward first <- forward
                backward stem <- forward
              backward 0 <- forward
    """)


def lambda_of_several_modules(block: nn.Module, x: Tensor) -> Tensor:
    return again(lambda y: block.second(block.act(block.first(y))), x)


def bound_forward_of_a_layer(block: nn.Module, x: Tensor) -> Tensor:
    return again(block.forward, x)


@pytest.mark.parametrize("call", [lambda_of_several_modules, bound_forward_of_a_layer])
def test_what_is_no_module(call: Callable[..., Tensor]) -> None:
    assert drawing_of_a_step(Model(call), 2, 3, 4) == tree("""
        train.step
          forward Model ->
            forward stem ->
            forward blocks.0.first ->
            forward blocks.0.act ->
            forward blocks.0.second ->
            forward blocks.1.first ->
            forward blocks.1.act ->
            forward blocks.1.second ->
            forward head ->
          backward
            backward Model <- forward
              backward head <- forward
              recompute blocks.1.first
              recompute blocks.1.act
              recompute blocks.1.second
              backward blocks.1.second <- forward
              backward blocks.1.act <- forward
              backward blocks.1.first <- forward
              recompute blocks.0.first
              recompute blocks.0.act
              recompute blocks.0.second
              backward blocks.0.second <- forward
              backward blocks.0.act <- forward
              backward blocks.0.first <- forward
              backward stem <- forward
    """)


def test_a_lambda_of_several_modules_reentrant() -> None:
    def pair(block: nn.Module, x: Tensor) -> Tensor:
        return again_reentrant(lambda y: block.second(block.act(block.first(y))), x)

    assert drawing_of_a_step(Model(pair), 2, 3, 4) == tree("""
        train.step
          forward Model ->
            forward stem ->
            forward blocks.0.first
            forward blocks.0.act
            forward blocks.0.second
            forward blocks.1.first
            forward blocks.1.act
            forward blocks.1.second
            forward head ->
          backward
            backward Model <- forward
              backward head <- forward
              recompute blocks.1.first
              recompute blocks.1.act
              recompute blocks.1.second
              backward
                backward blocks.1.second <- recompute
                backward blocks.1.act <- recompute
                backward blocks.1.first <- recompute
              recompute blocks.0.first
              recompute blocks.0.act
              recompute blocks.0.second
              backward
                backward blocks.0.second <- recompute
                backward blocks.0.act <- recompute
                backward blocks.0.first <- recompute
              backward stem <- forward
    """)


def test_a_lambda_that_calls_one_module_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Linear(4, 4)
            self.block = Block()

        def forward(self, x: Tensor) -> Tensor:
            return again(lambda y: self.block(self.block(y)), self.stem(x))

    assert drawing_of_a_step(Twice(), 2, 3, 4) == tree("""
        train.step
          forward Twice ->
            forward stem ->
            forward block ->
              forward first ->
              forward act ->
              forward second ->
            forward block#1 ->
              forward first ->
              forward act ->
              forward second ->
          backward
            backward Twice <- forward
              recompute block
                recompute first
                recompute act
                recompute second
              recompute block#1
                recompute first
                recompute act
                recompute second
              backward block#1 <- forward
                backward second <- forward
                backward act <- forward
                backward first <- forward
              backward block <- forward
                backward second <- forward
                backward act <- forward
                backward first <- forward
              backward stem <- forward
    """)


def test_shared_weights() -> None:
    class Shared(nn.Module):
        def __init__(self, call: Callable[..., Tensor]) -> None:
            super().__init__()
            self.stem = nn.Linear(4, 4)
            self.block = nn.Tanh()
            self.call = call

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            for _ in range(3):
                x = self.call(self.block, x)
            return x

    assert drawing_of_a_step(Shared(again), 2, 3, 4) == tree("""
        train.step
          forward Shared ->
            forward stem ->
            forward block ->
            forward block#1 ->
            forward block#2 ->
          backward
            backward Shared <- forward
              backward block#2 <- forward
                recompute block#2
              backward block#1 <- forward
                recompute block#1
              backward block <- forward
                recompute block
              backward stem <- forward
    """)
    assert drawing_of_a_step(Shared(again_reentrant), 2, 3, 4) == tree("""
        train.step
          forward Shared ->
            forward stem ->
            forward block
            forward block#1
            forward block#2
          backward
            backward Shared <- forward
              recompute block#2
              backward
                backward block#2 <- recompute
              recompute block#1
              backward
                backward block#1 <- recompute
              recompute block
              backward
                backward block <- recompute
              backward stem <- forward
    """)


class Nested(nn.Module):
    """A checkpoint inside a checkpoint."""

    def __init__(self, call: Callable[..., Tensor]) -> None:
        super().__init__()
        self.stem = nn.Linear(4, 4)
        self.outer = Outer(call)
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self.outer, self.stem(x))


class Outer(nn.Module):
    def __init__(self, call: Callable[..., Tensor]) -> None:
        super().__init__()
        self.before = nn.Tanh()
        self.inner = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self.inner, self.before(x))


def test_nested_not_reentrant() -> None:
    assert drawing_of_a_step(Nested(again), 2, 3, 4) == tree("""
        train.step
          forward Nested ->
            forward stem ->
            forward outer ->
              forward before ->
              forward inner ->
                forward inner.0 ->
                forward inner.1 ->
          backward
            backward Nested <- forward
              backward outer <- forward
                recompute outer
                  recompute before
                backward inner <- forward
                  recompute inner
                    recompute inner.0
                    recompute inner.1
                  backward inner.1 <- forward
                  backward inner.0 <- forward
                backward before <- forward
              backward stem <- forward
    """)


def test_nested_reentrant() -> None:
    assert drawing_of_a_step(Nested(again_reentrant), 2, 3, 4) == tree("""
        train.step
          forward Nested ->
            forward stem ->
            forward outer
              forward before
              forward inner
                forward inner.0
                forward inner.1
          backward
            backward Nested <- forward
              recompute outer
                recompute before
                recompute inner
                  recompute inner.0
                  recompute inner.1
              backward
                backward outer <- recompute
                  recompute inner
                    recompute inner.0
                    recompute inner.1
                  backward
                    backward inner <- recompute
                      backward inner.1 <- recompute
                      backward inner.0 <- recompute
                  backward before <- recompute
              backward stem <- forward
    """)


def test_sequential_segments() -> None:
    class Segments(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Linear(4, 4)
            self.layers = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh())

        def forward(self, x: Tensor) -> Tensor:
            return checkpoint_sequential(self.layers, 2, self.stem(x), use_reentrant=False)

    assert drawing_of_a_step(Segments(), 2, 3, 4) == tree("""
        train.step
          forward Segments ->
            forward stem ->
            forward layers.0 ->
            forward layers.1 ->
            forward layers.2 ->
            forward layers.3 ->
          backward
            backward Segments <- forward
              backward layers.3 <- forward
              backward layers.2 <- forward
              recompute layers.0
              recompute layers.1
              backward layers.1 <- forward
              backward layers.0 <- forward
              backward stem <- forward
    """)


def test_sequential_segments_reentrant_and_no_module_around_them() -> None:
    stem = nn.Linear(4, 4)
    layers = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh())
    with capture_spans() as captured:
        x = stem(torch.randn(2, 3, 4))
        checkpoint_sequential(layers, 2, x, use_reentrant=True).sum().backward()
    assert draw(captured) == tree("""
        train.step
          forward Linear ->
          forward Linear_1
          forward Tanh
          forward Linear_2 ->
          forward Tanh ->
          backward
            backward Tanh <- forward
            backward Linear_2 <- forward
            recompute Linear_1
            recompute Tanh
            backward
              backward Tanh <- recompute
              backward Linear_1 <- recompute
            backward Linear <- forward
    """)


def test_selective_checkpointing() -> None:
    def policy(ctx: Any, operation: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
        if operation == torch.ops.aten.addmm.default:
            return CheckpointPolicy.MUST_SAVE
        return CheckpointPolicy.PREFER_RECOMPUTE

    context = functools.partial(create_selective_checkpoint_contexts, policy)
    call = functools.partial(again, context_fn=context)
    assert drawing_of_a_step(Model(call), 2, 3, 4) == tree("""
        train.step
          forward Model ->
            forward stem ->
            forward blocks.0 ->
              forward first ->
              forward act ->
              forward second ->
            forward blocks.1 ->
              forward first ->
              forward act ->
              forward second ->
            forward head ->
          backward
            backward Model <- forward
              backward head <- forward
              backward blocks.1 <- forward
                recompute blocks.1
                  recompute first
                  recompute act
                  recompute second
                backward second <- forward
                backward act <- forward
                backward first <- forward
              backward blocks.0 <- forward
                recompute blocks.0
                  recompute first
                  recompute act
                  recompute second
                backward second <- forward
                backward act <- forward
                backward first <- forward
              backward stem <- forward
    """)


@pytest.mark.parametrize("call", [again, again_reentrant])
def test_a_container_that_is_recomputed_more_than_once_calls_its_modules_alike(
    call: Callable[..., Tensor],
) -> None:
    """Several micro-batches, and a graph that backward goes through twice."""
    model = Model(call)
    model.blocks = nn.ModuleList([nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Tanh()))])
    with capture_spans() as captured:
        loss = torch.stack([model(torch.ones(2, 4)).sum() for _ in range(2)]).sum()
        loss.backward(retain_graph=True)
        loss.backward()
        torch.optim.SGD(model.parameters()).step()
    names = [span.name for tree in captured.trees for span in tree.walk()]
    assert [name for name in names if name.startswith("recompute")] == 4 * [
        "recompute blocks.0",
        "recompute blocks.0.0",
        "recompute blocks.0.1",
        "recompute blocks.0.1.0",
    ]


class Adjoint(torch.autograd.Function):
    """Solves an ordinary differential equation, and in backward the adjoint one, by calls of a module each."""

    @staticmethod
    def forward(ctx: Any, f: nn.Module, x: Tensor) -> Tensor:
        for _ in range(3):
            x = x + f(x)
        ctx.f = f
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        (x,) = ctx.saved_tensors
        for _ in range(3):
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                y = ctx.f(x)
            gradient = gradient + torch.autograd.grad(y, x, gradient)[0]
        return None, gradient


def test_an_adjoint_method_calls_its_module_alike_at_each_step() -> None:
    model = Model(Adjoint.apply)
    model.blocks = nn.ModuleList([nn.Sequential(nn.Linear(4, 4), nn.Tanh())])
    with capture_spans() as captured:
        model(torch.ones(2, 4)).sum().backward()
        torch.optim.SGD(model.parameters()).step()
    names = [span.name for tree in captured.trees for span in tree.walk()]
    below = ["blocks.0", "blocks.0.0", "blocks.0.1"]
    assert [name for name in names if "blocks" in name] == [
        *(3 * [f"forward {name}" for name in below]),
        *(
            3
            * [
                *(f"recompute {name}" for name in below),
                *(f"backward {name}" for name in ("blocks.0", "blocks.0.1", "blocks.0.0")),
            ]
        ),
    ]


def test_without_early_stop() -> None:
    model = Model(again)
    with torch.utils.checkpoint.set_checkpoint_early_stop(False):
        drawing = drawing_of_a_step(model, 2, 3, 4)
    assert drawing == tree("""
        train.step
          forward Model ->
            forward stem ->
            forward blocks.0 ->
              forward first ->
              forward act ->
              forward second ->
            forward blocks.1 ->
              forward first ->
              forward act ->
              forward second ->
            forward head ->
          backward
            backward Model <- forward
              backward head <- forward
              backward blocks.1 <- forward
                recompute blocks.1
                  recompute first
                  recompute act
                  recompute second
                backward second <- forward
                backward act <- forward
                backward first <- forward
              backward blocks.0 <- forward
                recompute blocks.0
                  recompute first
                  recompute act
                  recompute second
                backward second <- forward
                backward act <- forward
                backward first <- forward
              backward stem <- forward
    """)


def test_an_exception_in_recompute() -> None:
    class Fragile(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = Block()
            self.calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            x = self.block(x)
            if self.calls == 2:
                raise ArithmeticError("only once")
            return x * x

    model = Model(again)
    model.blocks[0] = Fragile()
    with capture_spans() as captured:
        with pytest.raises(ArithmeticError):
            model(torch.randn(2, 3, 4)).sum().backward()
        model(torch.randn(2, 3, 4)).sum().backward()
    assert draw(captured) == tree("""
        train.step !
          forward Model ->
            forward stem ->
            forward blocks.0 ->
              forward block ->
                forward first ->
                forward act ->
                forward second ->
            forward blocks.1 ->
              forward first ->
              forward act ->
              forward second ->
            forward head ->
          backward !
            backward Model <- forward !
              backward head <- forward
              backward blocks.1 <- forward
                recompute blocks.1
                  recompute first
                  recompute act
                  recompute second
                backward second <- forward
                backward act <- forward
                backward first <- forward
              backward blocks.0 <- forward !
                recompute blocks.0 !
                  recompute block
                    recompute first
                    recompute act
                    recompute second
        train.step
          forward Model ->
            forward stem ->
            forward blocks.0 ->
              forward block ->
                forward first ->
                forward act ->
                forward second ->
            forward blocks.1 ->
              forward first ->
              forward act ->
              forward second ->
            forward head ->
          backward
            backward Model <- forward
              backward head <- forward
              backward blocks.1 <- forward
                recompute blocks.1
                  recompute first
                  recompute act
                  recompute second
                backward second <- forward
                backward act <- forward
                backward first <- forward
              backward blocks.0 <- forward
                recompute blocks.0
                  recompute block
                    recompute first
                    recompute act
                    recompute second
                backward block <- forward
                  backward second <- forward
                  backward act <- forward
                  backward first <- forward
              backward stem <- forward
    """)


def test_micro_batches_and_a_retained_graph() -> None:
    model = Model(again)
    model.blocks = nn.ModuleList([Block()])
    with capture_spans() as captured:
        losses = [model(torch.randn(2, 3, 4)).sum() for _ in range(2)]
        losses[1].backward(retain_graph=True)
        losses[0].backward()
        losses[1].backward()
    assert draw(captured) == tree("""
        train.step
          forward Model ->
            forward stem ->
            forward blocks.0 ->
              forward first ->
              forward act ->
              forward second ->
            forward head ->
          forward Model#1 ->
            forward stem ->
            forward blocks.0 ->
              forward first ->
              forward act ->
              forward second ->
            forward head ->
          backward
            backward Model#1 <- forward
              backward head <- forward
              backward blocks.0 <- forward
                recompute blocks.0
                  recompute first
                  recompute act
                  recompute second
                backward second <- forward
                backward act <- forward
                backward first <- forward
              backward stem <- forward
          backward
            backward Model <- forward
              backward head <- forward
              backward blocks.0 <- forward
                recompute blocks.0
                  recompute first
                  recompute act
                  recompute second
                backward second <- forward
                backward act <- forward
                backward first <- forward
              backward stem <- forward
          backward
            backward Model#1 <- forward
              backward head <- forward
              backward blocks.0 <- forward
                recompute blocks.0
                  recompute first
                  recompute act
                  recompute second
                backward second <- forward
                backward act <- forward
                backward first <- forward
              backward stem <- forward
    """)


class LateBinding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.ReLU()) for _ in range(2))
        self.last = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = again(lambda y: self.last(block(y)), x)  # noqa: B023
        return self.last(x)


def test_a_recompute_of_other_modules_than_the_forwards() -> None:
    with capture_spans() as captured:
        LateBinding()(torch.randn(2, 4)).sum().backward()
    assert draw(captured) == tree("""
        train.step
          forward LateBinding ->
            forward blocks.0 ->
              forward blocks.0.0 ->
              forward blocks.0.1 ->
            forward last ->
            forward blocks.1 ->
              forward blocks.1.0 ->
              forward blocks.1.1 ->
            forward last#1 ->
            forward last#2 ->
          backward
            backward LateBinding <- forward
              backward last#2 <- forward
              recompute blocks.1
                recompute blocks.1.0
                recompute blocks.1.1
              recompute last#1
              backward last#1 <- forward
              backward blocks.1 <- forward
                backward blocks.1.1 <- forward
                backward blocks.1.0 <- forward
              backward last <- forward
              recompute blocks.1
                recompute blocks.1.0
                recompute blocks.1.1
              recompute last
              backward blocks.0 <- forward
                backward blocks.0.1 <- forward
                backward blocks.0.0 <- forward
    """)
