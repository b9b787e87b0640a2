"""What is taken of torch for `node_marks.py` does what is said of it: a version that lacks a name says which."""

from __future__ import annotations

import sys

from otel_torch_modules._recording.torch_private.autograd import current_node
from otel_torch_modules._recording.torch_private.node_marks import MarkHooks, mark_carrier, marks_by
from tests.support.autograd_nodes import leaf, node_of


def test_markhooks_are_held_once_by_each_node_that_lives() -> None:
    carrier = mark_carrier(lambda _: None)
    hooks = carrier._backward_hooks
    assert isinstance(hooks, MarkHooks)
    before = sys.getrefcount(hooks)
    outs = [leaf() * 2 for _ in range(3)]
    for out in outs:
        marks_by(carrier)(node_of(out))
    assert sys.getrefcount(hooks) == before + 3
    del out, outs
    assert sys.getrefcount(hooks) == before


def test_mark_carrier_and_marks_by_MarkHooks() -> None:  # noqa: N802
    marked = []
    carrier = mark_carrier(lambda _: marked.append(current_node()))
    assert type(carrier._backward_hooks) is MarkHooks
    first = leaf() * 2
    second = first * 3
    for made in (first, second):
        marks_by(carrier)(node_of(made))
    second.sum().backward()
    assert marked == [node_of(second), node_of(first)]
