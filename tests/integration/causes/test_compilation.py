"""Compilations and recompilations have spans that say why. Dynamo is not imported for it, nothing of ours is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo import callback
from torch._dynamo.callback import callback_handler
from torch.fx import GraphModule

from otel_torch_modules import Config
from otel_torch_modules.testing import Captured, capture_spans
from tests.support.caused import Clock
from tests.support.small_training import Net
from tests.support.training_program import ENABLED, run

Loss = Callable[[Tensor], Tensor]

TELLS = hasattr(callback, "CallbackArgs")  # before torch 2.8 a callback is told nothing


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    """Let each test compile for itself, and see that no callback is left after it."""
    torch._dynamo.reset()
    yield
    assert (callback_handler.start_callbacks, callback_handler.end_callbacks) == ([], [])


def loss(outputs: Tensor) -> Tensor:
    """Return something that is to be compiled."""
    return (outputs * 2).relu().sum()


def train(sizes: list[int], compiled: Loss, clock: Clock | None = None) -> list[float]:
    """Make a step with a batch of each of these sizes."""
    torch.manual_seed(0)
    model = nn.Linear(4, 4)
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    for size in sizes:
        outputs = model(torch.ones(size, 4))
        with (clock or Clock()).around():
            value = compiled(outputs)
        value.backward()
        sgd.step()
    return [value for tensor in model.parameters() for value in tensor.flatten().tolist()]


def compilations(captured: Captured) -> list[list[dict[str, object]]]:
    """Return the attributes of the compilations in each step."""
    return [[span.attributes for span in tree.find("compile")] for tree in captured.trees]


def test_a_recompilation_says_what_was_not_as_before() -> None:
    clock = Clock()
    compiled = torch.compile(loss, backend="eager")
    with capture_spans() as captured:
        parameters = train([2, 2, 3], compiled, clock)
    told = {
        "torch.compile.trigger": "dynamo",
        "torch.compile.function": "loss",
        "code.file.path": __file__,
    }
    reason = "tensor 'outputs' size mismatch at index 0. expected 2, actual 3"
    again = {"torch.compile.id": "0/1", "torch.compile.recompile_reason": f"0/0: {reason}"}
    phase = {"torch.phase": "compile"}
    first, second, third = compilations(captured)
    assert first == [phase | (told | {"torch.compile.id": "0/0"} if TELLS else {})]
    assert second == []
    assert third == [phase | (told | again if TELLS else {})]
    assert captured.trees[2].outline().split("\n") == [
        "train.step",
        "  forward Linear",
        "  compile",
        "  backward",
        "    backward Linear",
        "  optimizer.step SGD",
    ]
    (span,) = captured.trees[2].find("compile")
    assert clock.holds(span)
    torch._dynamo.reset()
    assert parameters == train([2, 2, 3], torch.compile(loss, backend="eager"))


def test_a_compiled_modules_is_inside_its_forward_and_its_backward() -> None:
    model = Net()
    model.compile(backend="aot_eager")
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans() as captured:
        for _ in range(2):
            model(torch.ones(2, 4)).sum().backward()
            sgd.step()
    first, second = captured.trees
    triggers = [span.attributes.get("torch.compile.trigger") for span in first.find("compile")]
    assert triggers == (["dynamo", "lazy_backward"] if TELLS else [None])
    (forward,) = first.find("forward Net")
    (backward,) = first.find("backward Net")
    assert [span.name for span in forward.children] == ["compile"]
    assert [span.name for span in backward.children] == TELLS * ["compile"]
    assert second.find("compile") == []


def test_compilations_are_seen_again_after_dynamo_was_reset() -> None:
    with capture_spans() as captured:
        train([2], torch.compile(loss, backend="eager"))
        torch._dynamo.reset()
        train([2], torch.compile(loss, backend="eager"))
    assert [len(tree.find("compile")) for tree in captured.trees] == [1, 1]


def test_nothing_is_watched_where_it_is_not_chosen() -> None:
    with capture_spans(Config(causes=("gc",))) as captured:
        train([2], torch.compile(loss, backend="eager"))
    assert compilations(captured) == [[]]


def test_dynamo_is_not_imported_for_it(tmp_path: Path) -> None:
    program = dedent("""
        import sys
        import torch
        model = torch.nn.Linear(2, 2)
        model(torch.ones(1, 2))
        print("torch._dynamo" in sys.modules)
    """)
    done = run(
        tmp_path, program, **ENABLED, OTEL_TORCH_MODULES_CAUSES="all", OTEL_TRACES_EXPORTER="none"
    )
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_what_is_clipped_in_compiled_code_breaks_no_graph() -> None:
    parameter = torch.ones(4)
    parameter.grad = torch.ones(4)

    def clip(scale: Tensor) -> Tensor:
        torch.nn.utils.clip_grad_norm_([parameter], 1.0)
        return scale * 2

    def graphs() -> int:
        made: list[GraphModule] = []

        def compiler(graph: GraphModule, _: object) -> Callable[..., Any]:
            made.append(graph)
            return graph.forward

        torch._dynamo.reset()
        assert torch.compile(clip, backend=compiler)(torch.ones(1)).tolist() == [2.0]
        return len(made)

    untraced = graphs()  # one, but for versions of torch in which clipping breaks a graph by itself
    with capture_spans():
        assert graphs() == untraced
