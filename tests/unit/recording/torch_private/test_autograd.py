"""What is taken of torch for `autograd.py` does what is said of it: a version that lacks a name says which."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor
from torch._dynamo import compiled_autograd
from torch.utils.checkpoint import checkpoint

from otel_torch_modules._recording.torch_private.autograd import (
    RECOMPUTED,
    current_node,
    current_number,
    engine_call_code,
    executes,
    graph_task_id,
    made_in_function,
    queue_callback,
    runs_compiled_backward,
    sequence_number,
)
from tests.support.autograd_nodes import leaf, node_of


def in_backward(ask: Any) -> list[Any]:
    """Return what `ask` returns when it is called by a hook of a node in backward."""
    answers: list[Any] = []
    out = leaf() * 2
    out.register_hook(lambda _: answers.append(ask()))
    out.sum().backward()
    return answers


def test_graph_task_id() -> None:
    assert graph_task_id() == -1
    (task,) = in_backward(graph_task_id)
    assert task >= 0


def test_current_node() -> None:
    nodes = []
    out = leaf() * 2
    out.register_hook(lambda _: nodes.append(current_node()))
    out.sum().backward()
    assert nodes == [node_of(out)]


def test_current_number() -> None:
    numbers = []
    out = leaf() * 2
    out.register_hook(lambda _: numbers.append(current_number()))
    out.sum().backward()
    assert numbers == [node_of(out)._sequence_nr()]


def test_sequence_number() -> None:
    before = sequence_number()
    first = leaf() * 2
    second = first * 2
    numbers = [node_of(first)._sequence_nr(), node_of(second)._sequence_nr()]
    assert numbers == [before, before + 1]
    assert sequence_number() == before + 2


def test_runs_compiled_backward() -> None:
    assert in_backward(runs_compiled_backward) == [False]
    with compiled_autograd._enable(lambda graph: graph):
        assert in_backward(runs_compiled_backward) == [True]
    assert not runs_compiled_backward()


def test_executes() -> None:
    inside, outside = leaf() * 2, leaf() * 2
    answers = []
    out = inside * 2
    out.register_hook(
        lambda _: answers.extend(executes(node_of(made)) for made in (inside, outside))
    )
    out.sum().backward()
    assert answers == [True, False]


def test_made_in_function() -> None:
    class Same(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, values: Tensor) -> Tensor:
            return values

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> Tensor:
            return gradients[0]

    assert made_in_function(Same.apply(leaf() * 2))  # type: ignore[no-untyped-call]
    assert not made_in_function((leaf() * 2).view(2, 1))


def test_queue_callback() -> None:
    events: list[str] = []
    out = leaf() * 2
    out.register_hook(lambda _: queue_callback(lambda: events.append("end")))
    values = out * 3
    out.register_hook(lambda _: events.append("node"))
    values.sum().backward()
    assert events == ["node", "end"]


def test_recomputed() -> None:
    raised = []

    def doubled(x: Tensor) -> Tensor:
        try:
            return (x * 2).exp()  # what exp keeps is its result: the last that is recomputed
        except BaseException as error:
            raised.append(type(error))
            raise

    checkpoint(doubled, leaf(), use_reentrant=False).sum().backward()
    assert raised == [RECOMPUTED]


def test_engine_call_code() -> None:
    def runs_engine() -> bool:
        frame = inspect.currentframe()
        while frame is not None and frame.f_code is not engine_call_code:
            frame = frame.f_back
        return frame is not None

    assert in_backward(runs_engine) == [True]
    assert not runs_engine()
