"""What is taken of torch for `inductor.py` does what is said of it: a version that lacks a name says which."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch._dynamo
from torch import Tensor, nn
from torch._inductor import config as inductor
from torch._inductor import custom_graph_pass
from torch._inductor.custom_graph_pass import CustomGraphPass

from otel_torch_modules._recording.torch_private.inductor import (
    InductorPasses,
    gradient_of,
    inductor_passes,
    is_gradient,
    modules_of,
)


class KeyedPass(CustomGraphPass):
    """Says that it has seen a graph, and to caches what it does."""

    def __call__(self, graph: Any) -> None:
        graph.append("keyed")

    def uuid(self) -> str:
        return "keyed"


def plain_pass(graph: Any) -> None:
    """Say that it has seen a graph, and nothing to caches."""
    graph.append("plain")


# Before 2.13 there may be one alone.
SEVERAL = ["keyed", "plain"] if hasattr(custom_graph_pass, "get_custom_graph_passes") else None


THEIRS: list[tuple[Any, list[str]]] = [
    (None, []),
    (KeyedPass(), ["keyed"]),
    (plain_pass, ["plain"]),
    *([((KeyedPass(), plain_pass), SEVERAL)] if SEVERAL else []),
]


def seen_by(passes: Any) -> list[str]:
    """Return who has seen a graph that is given to what Inductor's setting has."""
    graph: list[str] = []
    for one in passes if isinstance(passes, tuple) else (passes,):
        one(graph)
    return graph


def passes_of_ours() -> InductorPasses:
    passes = inductor_passes(lambda graph: graph.append("ours"), "identifier")
    assert passes is not None
    return passes


@pytest.mark.parametrize(("theirs", "seen"), THEIRS)
def test_inductor_passes(theirs: Any, seen: list[str]) -> None:
    passes = passes_of_ours()
    with inductor.patch(post_grad_custom_post_pass=theirs):
        passes.add()
        both = inductor.post_grad_custom_post_pass
        passes.add()
        assert inductor.post_grad_custom_post_pass is both
        assert seen_by(both) == [*seen, "ours"]
        passes.remove()
        assert inductor.post_grad_custom_post_pass is theirs


def test_inductorpasses_know_what_is_replayed() -> None:
    passes = passes_of_ours()
    assert not passes.replayed
    with inductor.patch({"triton.cudagraphs": True}):
        assert passes.replayed


def test_inductorpasses_that_the_program_sets_later_are_kept() -> None:
    passes = passes_of_ours()
    with inductor.patch(post_grad_custom_post_pass=None):
        passes.add()
        inductor.post_grad_custom_post_pass = theirs = KeyedPass()
        passes.add()
        assert seen_by(inductor.post_grad_custom_post_pass) == ["keyed", "ours"]
        passes.remove()
        assert inductor.post_grad_custom_post_pass is theirs
        passes.add()
        inductor.post_grad_custom_post_pass = None
        passes.remove()
        assert inductor.post_grad_custom_post_pass is None


@pytest.mark.parametrize(
    ("theirs", "seen", "identifier"),
    [
        (None, [], "identifier"),
        (KeyedPass(), ["keyed"], ("keyed", "identifier")),
        (plain_pass, ["plain"], None),
    ],
)
def test_inductorpasses_are_one_where_it_takes_one(
    theirs: Any, seen: list[str], identifier: object
) -> None:
    passes = passes_of_ours()
    passes._kinds = SimpleNamespace(CustomGraphPass=CustomGraphPass)  # has no function for several
    both = passes._behind(theirs)
    assert seen_by(both) == [*seen, "ours"]
    assert (both.uuid(), isinstance(both, CustomGraphPass)) == (identifier, True)


@pytest.mark.slow
def test_modules_of_and_gradient_of_and_is_gradient() -> None:
    """What Inductor's graphs say of nodes: of a compiled model's, forward and backward."""
    told: dict[str, set[str]] = {"modules_of": set(), "gradient_of": set(), "is_gradient": set()}

    def look(graph: Any) -> None:
        for node in graph.nodes:
            for asked in (modules_of, gradient_of):
                told[asked.__name__] |= {path for path, _ in (asked(node) or {}).values()}
            if is_gradient(node):
                told["is_gradient"].add(node.op)

    passes = inductor_passes(look, None)
    assert passes is not None

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x).relu()

    model = Model()
    model.compile()
    with inductor.patch(post_grad_custom_post_pass=None):
        passes.add()
        model(torch.ones(1, 2, requires_grad=True)).sum().backward()
        passes.remove()
    torch._dynamo.reset()
    assert told["modules_of"] == told["gradient_of"] == {"L['self'].fc"}
    assert told["is_gradient"] == {"placeholder"}
