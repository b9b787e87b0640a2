"""Which autograd nodes to mark: those of a call's tensors, wherever in the arguments they are.

To read one may change the program. A view whose base was changed in place since has no node until somebody asks for it,
the program's next operation else: that draws its number, and so says when the engine comes to it and in which order
gradients are summed. For one of several views, as `split` makes them, it raises. So of a view that may be one of those
it is the node of the base that is read, or none.

A mark is a prehook of a node. When backward reaches an output's node the call's backward begins; when it reaches an
input's node the call's backward is over.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.autograd.graph import Node

from otel_torch_modules._recording.contents import input_tensors, output_tensors
from otel_torch_modules._recording.live_marks import count_seen
from otel_torch_modules._recording.torch_private.autograd import made_in_function
from otel_torch_modules._recording.torch_private.tensors import (
    torch_function_modes,
    without_torch_function,
)
from otel_torch_modules._site import Site

# As torch has them, whatever a subclass does.
_base = Tensor._base.__get__  # type: ignore[union-attr]
_grad_fn = Tensor.grad_fn.__get__  # type: ignore[union-attr]
_requires_grad = Tensor.requires_grad.__get__  # type: ignore[attr-defined]
_version = Tensor._version.__get__  # type: ignore[attr-defined]


def input_nodes(args: tuple[Any, ...], kwargs: dict[str, Any], site: Site) -> list[Node]:
    """Return the nodes that made the tensors that a call at `site` is given, and those of their bases, each once."""
    if (
        len(args) == 1
        and not kwargs
        and type(args[0]) is Tensor
        and not torch_function_modes()
        and not args[0].requires_grad
        and args[0]._base is None
    ):  # as a batch is: nothing has made it
        return []
    found = input_tensors(args, kwargs, site)
    if not found:
        return []
    if _are_plain(found):
        return _input_nodes(found)
    with without_torch_function():
        return _input_nodes(found)


def output_nodes(values: Any, first: int, site: Site) -> list[Node]:
    """Return the nodes to mark for what a call at `site` returned, whose first sequence number is `first`.

    An in-place operation on a view gives the view another node, and the one that it had never runs. Its base's
    node still does, so where the base was made in this call it is the base's that counts.
    """
    found = output_tensors(values, site)
    if not found:
        return []
    if _are_plain(found):
        return _output_nodes(found, first, site)
    with without_torch_function():
        return _output_nodes(found, first, site)


def _are_plain(tensors: list[Tensor]) -> bool:
    """Return whether nobody is told that these are looked at; to see to it otherwise takes as long as a look."""
    if torch_function_modes():
        return False
    for tensor in tensors:  # noqa: SIM110 - a generator would cost as much again
        if type(tensor) is not Tensor:
            return False
    return True


def _input_nodes(tensors: list[Tensor]) -> list[Node]:
    nodes = {}
    for tensor in {id(tensor): tensor for tensor in tensors}.values():  # attention gets one thrice
        # An operation in place gives a view another node, and that of its base still runs.
        base = _base(tensor)
        for one in (tensor, base):
            node = None if one is None else node_of(one)
            if node is not None:
                nodes[node._sequence_nr()] = node
    return list(nodes.values())


def _output_nodes(tensors: list[Tensor], first: int, site: Site) -> list[Node]:
    nodes = {}
    for tensor in {id(tensor): tensor for tensor in tensors}.values():
        node = _output_node(tensor, first, site)
        if node is not None:
            nodes[node._sequence_nr()] = node
    return list(nodes.values())


def node_of(tensor: Tensor) -> Node | None:
    """Return the node that made `tensor`; of a view whose base has ever been changed in place, that of the base."""
    base = _base(tensor)
    node: Node | None = _grad_fn(tensor if base is None or not _version(tensor) else base)
    return node


def _output_node(tensor: Tensor, first: int, site: Site) -> Node | None:
    if not _requires_grad(tensor):
        return None
    base = _base(tensor)
    made: Node | None = None if base is None else _grad_fn(base)
    if made is not None and made._sequence_nr() >= first:
        return _grad_fn(tensor) if _ends_in_function(tensor, site) else made
    return None if base is not None and _version(tensor) else _grad_fn(tensor)


def base_node(view: Tensor, first: int, site: Site) -> Node | None:
    """Return the node of the base of `view` if it is to be marked instead of that of `view`, else None.

    It is if it was made at or after `first`, and no call at `site` ends in a Function of Python's: what that does in
    backward is the call's, and nothing changes such a view in place. A node that is not looked at has no object in
    Python, so that of the view is left alone then.
    """
    if not view.requires_grad:
        return None
    made: Node | None = view._base.grad_fn  # type: ignore[union-attr]
    if made is None or made._sequence_nr() < first or site.ends_in_function:
        return None
    if site.ends_in_function is None and _ends_in_function(view, site):
        return None
    return made


def view_node(
    view: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any], first: int
) -> Node | None:
    """Return the node of `view`, which a call returned; None where that is one of its arguments, and may have none yet.

    Args:
        view: what the call has made, where it is none of its arguments.
        args: of the call.
        kwargs: the same.
        first: sequence number of the first node that the call can have made.
    """
    if view._version and any(view is one for one in (*args, *kwargs.values())):
        made = view._base.grad_fn  # type: ignore[union-attr]
        if made is None or made._sequence_nr() < first:
            return None
    return view.grad_fn


def _ends_in_function(view: Tensor, site: Site) -> bool:
    if site.ends_in_function is None:  # asked once: it takes as long as a call
        site.ends_in_function = made_in_function(view)
    return site.ends_in_function


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
        if before is not None:
            count_seen(before)
    return before
