"""Where the borders of modules are found in a flat graph."""

from __future__ import annotations

from collections.abc import Sequence
from operator import getitem

import pytest
import torch
from torch.fx import Graph, Node

from otel_torch_modules._recording.compiled_marks.borders import (
    Chosen,
    borders,
    is_backward,
)

BLOCKS = Chosen(["*.h.*"])
relu, add, view = torch.ops.aten.relu.default, torch.ops.aten.add.Tensor, torch.ops.aten.t.default


class Drawn:
    """A graph that is drawn node by node.

    Args:
        inputs: names of its inputs.
        of: the metadata that says where nodes belong.
    """

    def __init__(self, *inputs: str, of: str = "nn_module_stack") -> None:
        self.graph = Graph()
        self._of = of
        self.inputs = [self.graph.placeholder(name) for name in inputs]
        for node in self.inputs:
            node.meta["val"] = torch.empty(1)

    def call(self, target: object, *made_of: Node, at: str | None, size: int = 1) -> Node:
        """Add a node of the module at the path `at`; "" for the root, None where nothing is known."""
        node = self.graph.call_function(target, made_of)  # type: ignore[arg-type]
        node.meta["val"] = torch.empty(size, size)
        if at is not None:
            names = at.split(".")
            paths = [
                "L['self']" + "".join(f".{one}" for one in names[: end + 1])
                for end in range(len(names))
            ]
            node.meta[self._of] = {path: (path, "Module") for path in paths}
        return node

    def borders(self, *outputs: Node, chosen: Chosen = BLOCKS) -> list[tuple[str, str, str]]:
        """Return them with the names of the nodes behind which they are."""
        self.graph.output(outputs)
        return [
            (node.name.replace("_default", "").replace("_tensor", ""), ends, begins)
            for node, ends, begins in borders(self.graph, chosen)
        ]


def test_each_module_follows_the_one_before() -> None:
    drawn = Drawn("x")
    first = drawn.call(relu, *drawn.inputs, at="embed")
    inner = drawn.call(relu, first, at="h.0.attn")
    second = drawn.call(add, inner, first, at="h.0")
    third = drawn.call(relu, second, at="h.1.mlp.act")
    last = drawn.call(relu, third, at="head")
    assert drawn.borders(last) == [
        ("relu", "", "h.0"),
        ("add", "h.0", "h.1"),
        ("relu_2", "h.1", ""),
    ]


def test_what_begins_and_ends_a_graph() -> None:
    drawn = Drawn("x")
    first = drawn.call(relu, *drawn.inputs, at="h.0")
    last = drawn.call(relu, first, at="h.1")
    assert drawn.borders(last) == [("relu", "h.0", "h.1"), ("relu_1", "h.1", "")]


def test_a_module_that_is_called_twice_has_its_borders_twice() -> None:
    drawn = Drawn("x")
    node = drawn.inputs[0]
    for at in ("h.0", "norm", "h.0", "norm"):
        node = drawn.call(relu, node, at=at)
    assert drawn.borders(node) == [
        ("relu", "h.0", ""),
        ("relu_1", "", "h.0"),
        ("relu_2", "h.0", ""),
    ]


def test_the_largest_tensor_that_the_next_module_reads() -> None:
    drawn = Drawn("x")
    kept = drawn.call(relu, *drawn.inputs, at="h.0", size=9)  # for backward
    small = drawn.call(relu, kept, at="h.0", size=1)
    large = drawn.call(relu, kept, at="h.0", size=3)
    last = drawn.call(add, small, large, at="h.1")
    assert drawn.borders(kept, last)[0] == ("relu_2", "h.0", "h.1")


def test_a_view_is_marked_where_its_memory_was_made_and_inputs_are_not() -> None:
    drawn = Drawn("x", "weight")
    made = drawn.call(relu, drawn.inputs[0], at="h.0")
    seen = drawn.call(view, made, at="h.0")
    second = drawn.call(view, drawn.inputs[1], at="h.1")  # of a weight, which nobody may change
    third = drawn.call(add, seen, second, at="h.2")
    found = drawn.borders(third)
    assert found == [("relu", "h.0", "h.1"), ("add", "h.2", "")]


def test_a_part_of_what_was_split_is_a_view_and_one_of_several_results_is_none() -> None:
    drawn = Drawn("x", "weight")
    split = drawn.call(torch.ops.aten.split.Tensor, drawn.inputs[1], at="h.0")
    part = drawn.call(getitem, split, at="h.0", size=9)
    several = drawn.call(torch.ops.aten.var_mean.correction, drawn.inputs[0], part, at="h.1")
    mean = drawn.call(getitem, several, at="h.1")
    split.meta["val"] = several.meta["val"] = ()
    last = drawn.call(relu, mean, at="h.2")
    assert drawn.borders(last) == [("getitem_1", "h.1", "h.2"), ("relu", "h.2", "")]


def test_nodes_of_which_nothing_is_known_are_passed_over() -> None:
    drawn = Drawn("x")
    first = drawn.call(relu, *drawn.inputs, at="h.0")
    kept = drawn.call(relu, first, at=None)
    second = drawn.call(relu, first, at="h.1")
    assert drawn.borders(second, kept) == [("relu", "h.0", "h.1"), ("relu_2", "h.1", "")]


def test_backward_is_made_of_gradients_and_sums_are_of_what_they_sum_last() -> None:
    drawn = Drawn("primals_1", "tangents_1", of="fwd_nn_module_stack")
    kept, tangent = drawn.inputs
    drawn.call(view, kept, at="h.0")  # computed again
    head = drawn.call(relu, tangent, at="head")
    second = drawn.call(relu, head, at="h.1")
    total = drawn.call(add, head, second, at=None)  # past the residual, and through the block
    first = drawn.call(add, total, kept, at="h.0")
    assert is_backward(drawn.graph)
    assert drawn.borders(first) == [
        ("relu", "", "h.1"),
        ("add", "h.1", "h.0"),
        ("add_1", "h.0", ""),
    ]


def test_too_many_are_none() -> None:
    drawn = Drawn("x")
    node = drawn.inputs[0]
    for number in range(600):
        node = drawn.call(relu, node, at=f"h.{number % 2}")
    assert drawn.borders(node) == []


@pytest.mark.parametrize(
    ("globs", "paths", "place"),
    [
        (["*.h.*"], ["L['self']", "L['self'].h.0", "L['self'].h.0.fc"], "h.0"),
        (["*.h.*.fc"], ["L['self']", "L['self'].h.0", "L['self'].h.0.fc"], "h.0.fc"),
        (["GPT.h.*"], ["G['model']._orig_mod", "G['model']._orig_mod.h[0]"], "h.0"),
        (["*.h.*"], ["L['self']._modules['h']._modules['3']"], "h.3"),
        (["*.mlp", "*.attn"], ["L['self'].mlp"], "mlp"),
        (["*.h.*"], ["L['self']", "L['self'].head"], ""),
        (["*.h.*"], ["L['self']"], ""),
        (["*.h.*"], [], None),
    ],
)
def test_the_outermost_chosen_module(
    globs: Sequence[str], paths: Sequence[str], place: str | None
) -> None:
    stack = {path: (path, "Module") for path in paths}
    assert Chosen(globs).place_of(stack) == place
