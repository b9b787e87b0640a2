"""The operator that marks a border in a compiled graph.

It claims to change the tensor that crosses the border, so it runs after all that the tensor is made of and before all
that reads it; no copy is made. It is defined once and stays: what was compiled with it goes on calling it. Defined by
hand, it takes a tenth of what ``torch.library.custom_op`` does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor
from torch.fx import Node

_NAMESPACE: Final = "otel_torch_modules"

_BORDERS: Final = "|"  # between what ends and what begins
_BACKWARD: Final = "backward"
_FORWARD: Final = "forward"

Cross = Callable[[str, str, bool], None]
"""Told what ends and what begins, and whether that is in a backward's graph."""

_cross: Cross | None = None
_library: Any = None  # an operator is there as long as this


def listen(cross: Cross | None) -> None:
    """Have `cross` called at each border from now on; None for nobody."""
    global _cross
    _cross = cross
    if cross is not None:
        _define()


def _define() -> None:
    global _library
    if _library is None:
        _library = torch.library.Library(_NAMESPACE, "FRAGMENT")  # type: ignore[no-untyped-call]
        _library.define("mark(Tensor(a!) crossing, str border) -> ()")
        _library.impl("mark", _mark, "CompositeExplicitAutograd")
        _library.impl("mark", _mark_nothing, "Meta")


def put_mark(node: Node, ends: str, begins: str, backward: bool) -> None:
    """Put a mark behind `node`, whose tensor crosses the border."""
    code = _BORDERS.join((ends, begins, _BACKWARD if backward else _FORWARD))
    with node.graph.inserting_after(node):
        node.graph.call_function(torch.ops.otel_torch_modules.mark.default, (node, code))


def _mark(_: Tensor, code: str) -> None:
    cross = _cross
    if cross is not None:
        ends, begins, kind = code.split(_BORDERS)
        cross(ends, begins, kind == _BACKWARD)


def _mark_nothing(*_: Any) -> None:
    """While a graph is traced there is nothing to mark."""
