"""Tensors are found wherever a call's arguments and outputs hold them."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from otel_torch_modules.testing import capture_spans
from tests.integration.backward.drawing import draw, drawing_of_a_step, tree
from tests.support.pytrees import registered

Pair = namedtuple("Pair", ["first", "second"])


@dataclass
class Output:
    logits: Tensor
    hidden: tuple[Tensor, ...] | None = None
    loss: Tensor | None = None


class Registered:
    """A container that only torch's pytree knows how to open."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


@pytest.fixture
def registered_pytree() -> Any:
    with registered(
        Registered,
        lambda value: ([value.tensor], None),
        lambda leaves, _: Registered(next(iter(leaves))),
    ):
        yield


class Producer(nn.Module):
    """Gives its output in a container."""

    def __init__(self, wrap: Any) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.wrap = wrap

    def forward(self, x: Tensor) -> Any:
        return self.wrap(self.inner(x) * 2)


class Consumer(nn.Module):
    """Takes its input in a container."""

    def __init__(self, unwrap: Any) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.unwrap = unwrap

    def forward(self, value: Any) -> Tensor:
        return self.inner(self.unwrap(value) * 2)


class Model(nn.Module):
    def __init__(self, wrap: Any, unwrap: Any) -> None:
        super().__init__()
        self.producer = Producer(wrap)
        self.consumer = Consumer(unwrap)

    def forward(self, x: Tensor) -> Tensor:
        return self.consumer(self.producer(x * 2))


WHOLE_TREE = tree("""
    train.step
      forward Model ->
        forward producer ->
          forward inner ->
        forward consumer ->
          forward inner ->
      backward
        backward Model <- forward
          backward consumer <- forward
            backward inner <- forward
          backward producer <- forward
            backward inner <- forward
""")


@pytest.mark.parametrize(
    ("wrap", "unwrap"),
    [
        pytest.param(lambda y: (None, y), lambda v: v[1], id="tuple"),
        pytest.param(lambda y: [y, None, 3], lambda v: v[0], id="list"),
        pytest.param(lambda y: {"y": y, "n": None}, lambda v: v["y"], id="dict"),
        pytest.param(lambda y: OrderedDict(y=y), lambda v: v["y"], id="ordered dict"),
        pytest.param(lambda y: Pair(None, y), lambda v: v.second, id="named tuple"),
        pytest.param(lambda y: Output(y), lambda v: v.logits, id="dataclass"),
        pytest.param(lambda y: Output(None, (y,)), lambda v: v.hidden[0], id="tuple in dataclass"),  # type: ignore[arg-type]
        pytest.param(
            lambda y: {"a": [(Output(y), None)]}, lambda v: v["a"][0][0].logits, id="nested"
        ),
    ],
)
def test_containers(wrap: Any, unwrap: Any) -> None:
    model = Model(wrap, unwrap)
    with capture_spans() as captured:
        model(torch.randn(2, 3, 4)).sum().backward()
    assert draw(captured) == WHOLE_TREE


@pytest.mark.usefixtures("registered_pytree")
def test_registered_pytrees() -> None:
    model = Model(Registered, lambda value: value.tensor)
    with capture_spans() as captured:
        model(torch.randn(2, 3, 4)).sum().backward()
    assert draw(captured) == WHOLE_TREE


def test_keyword_arguments() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, *, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
            return self.inner(hidden * 2)

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Linear(4, 4)
            self.named = Named()

        def forward(self, x: Tensor) -> Tensor:
            return self.named(hidden=self.stem(x), mask=None)

    model = Outer()
    with capture_spans() as captured:
        model(x=torch.randn(2, 3, 4)).sum().backward()
    assert draw(captured) == tree("""
        train.step
          forward Outer ->
            forward stem ->
            forward named ->
              forward inner ->
          backward
            backward Outer <- forward
              backward named <- forward
                backward inner <- forward
              backward stem <- forward
    """)


def test_a_root_whose_output_is_a_dict() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = nn.Linear(4, 4)
            self.heads = nn.ModuleDict({"mean": nn.Linear(4, 1), "spread": nn.Linear(4, 1)})

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            x = self.trunk(x)
            return {name: head(x) for name, head in self.heads.items()}

    model = Model()
    with capture_spans() as captured:
        out = model(torch.randn(3, 4))
        (out["mean"] + out["spread"].exp()).sum().backward()
    assert draw(captured) == tree("""
        train.step
          forward Model ->
            forward trunk ->
            forward heads.mean ->
            forward heads.spread ->
          backward
            backward Model <- forward
              backward heads.spread <- forward
              backward heads.mean <- forward
              backward trunk <- forward
    """)


def test_several_outputs_of_one_node() -> None:
    class Split(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.project = nn.Linear(4, 8)

        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            return self.project(x).chunk(2, -1)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.split = Split()
            self.left = nn.Linear(4, 1)
            self.right = nn.Linear(4, 1)

        def forward(self, x: Tensor) -> Tensor:
            left, right = self.split(x)
            return self.left(left) + self.right(right)

    model = Model()
    assert drawing_of_a_step(model, 2, 3, 4) == tree("""
        train.step
          forward Model ->
            forward split ->
              forward project ->
            forward left ->
            forward right ->
          backward
            backward Model <- forward
              backward right <- forward
              backward left <- forward
              backward split <- forward
                backward project <- forward
    """)


def test_a_dataclass_that_holds_itself() -> None:
    @dataclass
    class Knot:
        y: Tensor
        itself: Any = None

    def tie(y: Tensor) -> Knot:
        knot = Knot(y)
        knot.itself = knot
        return knot

    model = Model(tie, lambda value: value.y)
    with capture_spans() as captured:
        model(torch.randn(2, 3, 4)).sum().backward()
    assert draw(captured) == WHOLE_TREE
