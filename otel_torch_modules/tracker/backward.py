"""One backward while it runs, and where in the forward calls it is."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from otel_torch_modules.tracker.calls import LiveCall, LiveRuler
from otel_torch_modules.tracker.frames import KnownFrame

Gradients = tuple["Tensor | None", ...]

NO_NODE = -1


class LiveBackward:
    """A backward that runs, and the calls whose backward is open in it.

    A graph made in several threads has several rulers: what is open is open on one of them.

    Args:
        graph_task: the engine's number for it.
        frame: what runs it.
        ruler: what its first mark is on.
        begin: called when the backward of a call begins, with the gradients of the outputs where it was come to.
        end: called when the backward of a call ends, with the gradients of its inputs.
    """

    __slots__ = ("_begin", "_end", "_moving", "_number", "_open", "_ruler", "frame", "graph_task")

    def __init__(
        self,
        graph_task: int,
        frame: KnownFrame,
        ruler: LiveRuler,
        begin: Callable[[LiveCall, Gradients], None],
        end: Callable[[LiveCall, Gradients], None],
    ) -> None:
        self.graph_task = graph_task
        self.frame = frame
        self._begin = begin
        self._end = end
        self._open: dict[LiveRuler, list[LiveCall]] = {}
        self._moving = False
        self._ruler = ruler  # of the mark reached last
        self._number = NO_NODE

    def reach(self, ruler: LiveRuler, number: int, gradients: Gradients) -> None:
        """Backward has come to the node `number`: close what did not make it, open what did."""
        self._ruler = ruler
        self._number = number
        self._move(ruler, ruler.path(number), number, gradients)

    def finish(self) -> None:
        """All nodes have run: close what is open."""
        for ruler in list(self._open):
            self._move(ruler, [], NO_NODE, ())

    def calls(self) -> list[LiveCall]:
        """Return the calls that are open, as the marks say."""
        return [call for calls in self._open.values() for call in calls]

    def calls_at(self, number: int) -> list[LiveCall]:
        """Return the calls that are open while the node `number` runs.

        Hooks of tensors run before the marks on the same node, so it is the node that says where backward is, if its
        number tells: not that of a leaf, or of a node that a backward made, which may be another thread's.
        """
        if self._moving or not 0 <= number <= self._number:
            return self.calls()
        others = [calls for ruler, calls in self._open.items() if ruler is not self._ruler]
        return [call for calls in [*others, self._ruler.path(number)] for call in calls]

    def _move(
        self, ruler: LiveRuler, path: list[LiveCall], number: int, gradients: Gradients
    ) -> None:
        """Close what is open on `ruler` and not on `path`, innermost first; open the rest of `path`."""
        opened = self._open.setdefault(ruler, [])
        self._moving = True
        try:
            while not _begins_with(path, opened):
                call = opened[-1]
                self._end(call, call.grad_inputs(number, gradients))
                opened.pop()
            for call in path[len(opened) :]:
                opened.append(call)
                self._begin(call, call.grad_outputs(number, gradients))
        finally:
            self._moving = False


def _begins_with(path: list[LiveCall], opened: list[LiveCall]) -> bool:
    return path[: len(opened)] == opened
