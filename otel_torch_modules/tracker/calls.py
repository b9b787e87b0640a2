"""Forward calls as ranges of the autograd sequence number, kept while their graph lives.

Every node that autograd makes has a number from a counter of its thread that only grows. A call's forward makes the
numbers from `start` up to `end`; calls nest, so ranges do, and the innermost range that holds a node's number is the
call whose backward runs when that node does.
"""

from __future__ import annotations

import weakref
from bisect import bisect_right
from operator import attrgetter, itemgetter
from typing import NamedTuple

from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.utils.hooks import RemovableHandle

from otel_torch_modules._interruption import is_interruption
from otel_torch_modules.tracker.frames import KnownFrame


class Edge(NamedTuple):
    """A tensor in the graph: the sequence number of the node that made it, and which of the node's outputs it is."""

    number: int
    output: int


def node_of(tensor: Tensor) -> Node | None:
    """Return the node that made `tensor`, whose gradients are those of the tensor.

    None for a leaf, and for one of several views, as `split` makes them, whose base was changed in place.
    """
    try:
        node: Node | None = tensor.grad_fn
    except RuntimeError as error:
        if is_interruption(error):
            raise
        return None
    return node


class LiveCall:
    """One forward call. The marks on its graph hold it, and with it the calls around it; it holds no tensor."""

    __slots__ = (
        "__weakref__",
        "children",
        "end",
        "fqn",
        "frame",
        "inputs",
        "module",
        "outputs",
        "parent",
        "ruler",
        "start",
    )

    def __init__(
        self,
        fqn: str,
        module: nn.Module,
        frame: KnownFrame,
        ruler: LiveRuler,
        parent: LiveCall | None,
    ) -> None:
        self.fqn = fqn
        self.module = weakref.ref(module)
        self.ruler = ruler
        self.parent = parent
        self.frame = frame  # what runs it
        self.start = 0
        self.end: int | None = None  # None while the call runs
        self.children: list[LiveCall] = []
        self.inputs: list[
            Edge | None
        ] = []  # of the tensors that require a gradient; None for a leaf
        self.outputs: list[Edge] = []

    def holds(self, number: int) -> bool:
        """Whether this call's forward made the node `number`."""
        return self.start <= number and (self.end is None or number < self.end)

    def has_output(self, number: int) -> bool:
        """Whether the node `number` made an output of this call."""
        return any(edge.number == number for edge in self.outputs)

    def grad_outputs(
        self, number: int, gradients: tuple[Tensor | None, ...]
    ) -> tuple[Tensor | None, ...]:
        """Return those of the `gradients` of the node `number` that are of outputs of this call."""
        return tuple([gradients[edge.output] for edge in self.outputs if edge.number == number])

    def grad_inputs(
        self, number: int, gradients: tuple[Tensor | None, ...]
    ) -> tuple[Tensor | None, ...]:
        """Return a gradient for each input that requires one; None where the node `number` did not make it."""
        return tuple(
            [
                gradients[edge.output] if edge is not None and edge.number == number else None
                for edge in self.inputs
            ]
        )


class LiveRuler:
    """The sequence numbers of one thread, and the calls that are laid out on them."""

    def __init__(self) -> None:
        self._roots: list[tuple[int, weakref.ref[LiveCall]]] = []  # with their starts
        self._marks: dict[int, RemovableHandle] = {}
        self._next_sweep = 64

    def open(self, call: LiveCall, start: int) -> None:
        """Lay out `call`, whose first node will be `start`, inside of its parent."""
        call.start = start
        if call.parent is not None:
            call.parent.children.append(call)
            return
        self._roots.append((start, weakref.ref(call)))
        if len(self._roots) + len(self._marks) > self._next_sweep:
            self._sweep()

    def path(self, number: int) -> list[LiveCall]:
        """Return the calls that made the node `number`, outermost first."""
        index = bisect_right(self._roots, number, key=itemgetter(0)) - 1
        call = self._roots[index][1]() if index >= 0 else None
        path = []
        while call is not None and call.holds(number):
            path.append(call)
            index = bisect_right(call.children, number, key=attrgetter("start")) - 1
            call = call.children[index] if index >= 0 else None
        return path

    def has_mark(self, node: Node) -> bool:
        """Whether `node` was marked before."""
        handle = self._marks.get(node._sequence_nr())
        return handle is not None and _lives(handle)

    def keep_mark(self, node: Node, handle: RemovableHandle) -> None:
        """Remember that `node` is marked, for as long as it lives."""
        self._marks[node._sequence_nr()] = handle

    def remove_marks(self) -> None:
        """Take the marks off all graphs that are still there."""
        for handle in self._marks.values():
            handle.remove()
        self._marks.clear()

    def _sweep(self) -> None:
        """Forget graphs that are gone; how often follows from how many are not."""
        self._roots = [(start, root) for start, root in self._roots if root() is not None]
        self._marks = {number: handle for number, handle in self._marks.items() if _lives(handle)}
        self._next_sweep = 64 + 2 * (len(self._roots) + len(self._marks))


def _lives(handle: RemovableHandle) -> bool:
    """Whether the node that the hook of `handle` is on still exists."""
    return handle.hooks_dict_ref() is not None
