"""Backward has the shape of forward: chains, branches, in-place operations, modules called more than once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from otel_torch_modules.testing import capture_spans
from tests.integration.backward.block import Block
from tests.integration.backward.drawing import draw, drawing_of_a_step, tree


class Double(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(2)


def test_a_chain_runs_from_its_end_to_its_start() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
    assert drawing_of_a_step(model, 3, 4) == tree("""
        train.step
          forward Sequential ->
            forward 0 ->
            forward 1 ->
            forward 2 ->
          backward
            backward Sequential <- forward
              backward 2 <- forward
              backward 1 <- forward
              backward 0 <- forward
    """)


def test_blocks_hang_below_their_model() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList([Block(), Block()])
            self.head = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            for block in self.blocks:
                x = block(x)
            return self.head(x)

    model = Model()
    assert drawing_of_a_step(model, 2, 3, 4) == tree("""
        train.step
          forward Model ->
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
                backward second <- forward
                backward act <- forward
                backward first <- forward
              backward blocks.0 <- forward
                backward second <- forward
                backward act <- forward
                backward first <- forward
    """)


def test_branches_run_in_the_reverse_of_the_order_of_forward() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Linear(4, 4)
            self.left = Block()
            self.right = Block()
            self.join = nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            return self.join(torch.cat([self.left(x), self.right(x)], -1))

    model = Branches()
    assert drawing_of_a_step(model, 3, 4) == tree("""
        train.step
          forward Branches ->
            forward stem ->
            forward left ->
              forward first ->
              forward act ->
              forward second ->
            forward right ->
              forward first ->
              forward act ->
              forward second ->
            forward join ->
          backward
            backward Branches <- forward
              backward join <- forward
              backward right <- forward
                backward second <- forward
                backward act <- forward
                backward first <- forward
              backward left <- forward
                backward second <- forward
                backward act <- forward
                backward first <- forward
              backward stem <- forward
    """)


def test_residual_connections_keep_each_module_once() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(4)
            self.block = Block()
            self.out = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = x + self.block(self.norm(x))
            return x + self.out(x)

    model = nn.Sequential(Residual(), Residual())
    assert drawing_of_a_step(model, 2, 3, 4) == tree("""
        train.step
          forward Sequential ->
            forward 0 ->
              forward norm ->
              forward block ->
                forward first ->
                forward act ->
                forward second ->
              forward out ->
            forward 1 ->
              forward norm ->
              forward block ->
                forward first ->
                forward act ->
                forward second ->
              forward out ->
          backward
            backward Sequential <- forward
              backward 1 <- forward
                backward out <- forward
                backward block <- forward
                  backward second <- forward
                  backward act <- forward
                  backward first <- forward
                backward norm <- forward
              backward 0 <- forward
                backward out <- forward
                backward block <- forward
                  backward second <- forward
                  backward act <- forward
                  backward first <- forward
                backward norm <- forward
    """)


def test_an_input_that_several_modules_read() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v = (nn.Linear(4, 4) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.q(x), self.k(x), self.v(x)
            return nn.functional.scaled_dot_product_attention(q, k, v)

    model = nn.Sequential(nn.Linear(4, 4), Attention(), nn.Linear(4, 4))
    assert drawing_of_a_step(model, 2, 3, 4) == tree("""
        train.step
          forward Sequential ->
            forward 0 ->
            forward 1 ->
              forward q ->
              forward k ->
              forward v ->
            forward 2 ->
          backward
            backward Sequential <- forward
              backward 2 <- forward
              backward 1 <- forward
                backward v <- forward
                backward k <- forward
                backward q <- forward
              backward 0 <- forward
    """)


@pytest.mark.parametrize("last", [nn.Hardtanh, nn.ReLU])
@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4)], ids=["", "on the view that linear returns"])
def test_in_place_operations(last: Any, shape: tuple[int, ...]) -> None:
    model = nn.Sequential(
        nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 4), last(inplace=True)
    )
    assert drawing_of_a_step(model, *shape) == tree("""
        train.step
          forward Sequential ->
            forward 0 ->
            forward 1 ->
            forward 2 ->
            forward 3 ->
          backward
            backward Sequential <- forward
              backward 3 <- forward
              backward 2 <- forward
              backward 1 <- forward
              backward 0 <- forward
    """)


def test_in_place_operations_on_parts_of_a_modules_output() -> None:
    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.project = nn.Linear(4, 8)
            self.twice = Double()
            self.out = nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.project(x)
            self.twice(x[..., :4])
            self.twice(x[..., 4:])
            return self.out(x)

    model = Parts()
    assert drawing_of_a_step(model, 2, 3, 4) == tree("""
        train.step
          forward Parts ->
            forward project ->
            forward twice ->
            forward twice#1 ->
            forward out ->
          backward
            backward Parts <- forward
              backward out <- forward
              backward twice#1 <- forward
              backward twice <- forward
              backward project <- forward
    """)


def test_a_first_operation_in_place_on_a_view_made_outside_modules() -> None:
    class Viewed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Linear(4, 4)
            self.act = nn.ReLU(inplace=True)
            self.out = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = (self.embed(x) * 2).view(-1, 2)
            return self.out(self.act(x))

    model = Viewed()
    assert drawing_of_a_step(model, 3, 4) == tree("""
        train.step
          forward Viewed ->
            forward embed ->
            forward act ->
            forward out ->
          backward
            backward Viewed <- forward
              backward out <- forward
              backward act <- forward
              backward embed <- forward
    """)


def test_a_module_called_twice_has_two_spans() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared = Block()
            self.between = nn.Tanh()

        def forward(self, x: Tensor) -> Tensor:
            return self.shared(self.between(self.shared(x)))

    model = Tied()
    assert drawing_of_a_step(model, 3, 4) == tree("""
        train.step
          forward Tied ->
            forward shared ->
              forward first ->
              forward act ->
              forward second ->
            forward between ->
            forward shared#1 ->
              forward first ->
              forward act ->
              forward second ->
          backward
            backward Tied <- forward
              backward shared#1 <- forward
                backward second <- forward
                backward act <- forward
                backward first <- forward
              backward between <- forward
              backward shared <- forward
                backward second <- forward
                backward act <- forward
                backward first <- forward
    """)


def test_a_recurrent_cell_has_a_span_for_each_step_in_time() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.GRUCell(4, 4)
            self.out = nn.Linear(4, 1)

        def forward(self, x: Tensor) -> Tensor:
            state = torch.zeros(2, 4)
            total = torch.zeros(())
            for part in x:
                state = self.cell(part, state)
                total = total + self.out(state).sum()
            return total

    model = Recurrent()
    with capture_spans() as captured:
        model(torch.randn(3, 2, 4)).backward()
    assert draw(captured) == tree("""
        train.step
          forward Recurrent ->
            forward cell ->
            forward out ->
            forward cell#1 ->
            forward out#1 ->
            forward cell#2 ->
            forward out#2 ->
          backward
            backward Recurrent <- forward
              backward out#2 <- forward
              backward cell#2 <- forward
              backward out#1 <- forward
              backward cell#1 <- forward
              backward out <- forward
              backward cell <- forward
    """)


def test_a_module_that_calls_itself() -> None:
    class Tree(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.leaf = nn.Linear(4, 4)

        def forward(self, x: Tensor, depth: int = 1) -> Tensor:
            if depth:
                return self(x, depth - 1) + self(x * 2, depth - 1)
            return self.leaf(x)

    model = Tree()
    assert drawing_of_a_step(model, 3, 4) == tree("""
        train.step
          forward Tree ->
            forward Tree ->
              forward leaf ->
            forward Tree#1 ->
              forward leaf ->
          backward
            backward Tree <- forward
              backward Tree#1 <- forward
                backward leaf <- forward
              backward Tree <- forward
                backward leaf <- forward
    """)


def test_modules_that_make_no_nodes_have_no_backward() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Identity(), nn.Dropout(0.0), nn.Linear(4, 4))
    assert drawing_of_a_step(model, 3, 4) == tree("""
        train.step
          forward Sequential ->
            forward 0 ->
            forward 1
            forward 2
            forward 3 ->
          backward
            backward Sequential <- forward
              backward 3 <- forward
              backward 0 <- forward
    """)
