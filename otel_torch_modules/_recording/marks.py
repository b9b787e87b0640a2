"""Which autograd nodes to mark: those of a call's tensors, wherever in the arguments they are.

A mark is a prehook of a node. When backward reaches an output's node the call's backward begins; when it reaches an
input's node the call's backward is over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.utils._pytree import tree_leaves

from otel_torch_modules._recording.torch_private import torch_function_modes


def tensors(value: Any, around: tuple[Any, ...] = ()) -> Iterator[Tensor]:
    """Yield the tensors in `value`: itself, or below it in containers, dataclasses and registered pytrees.

    Args:
        value: anything that a module takes or returns.
        around: the dataclasses that hold `value`; one may hold itself.
    """
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors(item, around)
    elif value is not None and not isinstance(value, (str, bytes, int, float, type)):
        for leaf in tree_leaves(value):
            if isinstance(leaf, (Tensor, tuple, list)):
                yield from tensors(leaf, around)
            elif (
                is_dataclass(leaf)
                and not isinstance(leaf, type)
                and not any(leaf is holder for holder in around)
            ):
                for entry in fields(leaf):
                    yield from tensors(getattr(leaf, entry.name, None), (*around, leaf))


def input_nodes(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Node]:
    """Return the nodes that made the tensors in what a module is called with, each once."""
    if len(args) == 1 and not kwargs and _is_plain(args[0]):
        only = args[0].grad_fn
        return [] if only is None else [only]
    nodes = {}
    with torch._C.DisableTorchFunction():
        for tensor in tensors((args, kwargs)):
            node = tensor.grad_fn
            if node is not None:
                nodes[node._sequence_nr()] = node
    return list(nodes.values())


def output_nodes(values: Any, first: int) -> list[Node]:
    """Return the nodes to mark for the outputs of a call whose first sequence number is `first`.

    An in-place operation on a view gives the view another node, and the one that it had never runs. Its base's
    node still does, so where the base was made in this call it is the base's that counts.
    """
    if _is_plain(values):
        only = _output_node(values, first)
        return [] if only is None else [only]
    nodes = {}
    with torch._C.DisableTorchFunction():
        for tensor in tensors(values):
            node = _output_node(tensor, first)
            if node is not None:
                nodes[node._sequence_nr()] = node
    return list(nodes.values())


def _output_node(tensor: Tensor, first: int) -> Node | None:
    return view_node(tensor, first) if tensor._is_view() else tensor.grad_fn


def _is_plain(value: Any) -> bool:
    """Return whether `value` is a tensor whose attributes may be read without anybody seeing it."""
    return type(value) is Tensor and not torch_function_modes()


def view_node(view: Tensor, first: int) -> Node | None:
    """Return the node of the base of `view` if it was made at or after `first`, else that of `view` itself.

    A node that is not looked at has no object in Python, so that of the view is left alone where it is not needed.
    """
    if not view.requires_grad:
        return None
    made: Node | None = view._base.grad_fn  # type: ignore[union-attr]
    return view.grad_fn if made is None or made._sequence_nr() < first else made


def is_view_of(tensor: Tensor, number: int) -> bool:
    """Return whether `tensor` is a view of what the node `number` made."""
    if not tensor._is_view():
        return False
    made: Node | None = tensor._base.grad_fn  # type: ignore[union-attr]
    return made is not None and made._sequence_nr() == number


def node_before(node: Node, first: int) -> Node | None:
    """Return the node of a view's base from before the operations in place that a call did on the view.

    The call's input was the view, and the node that the view had then never runs.

    Args:
        node: of the base, after the call.
        first: sequence number of the first node that the call can have made.
    """
    before: Node | None = node
    while before is not None and before._sequence_nr() >= first:
        following = before.next_functions
        before = following[0][0] if following else None
    return before
