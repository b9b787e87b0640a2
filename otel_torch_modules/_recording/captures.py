"""Where ``autograd.grad`` stops: a node whose gradient it returns, without running the node.

The engine calls a node's tensor hooks there too, but nothing of the module that made the node runs, so such a mark
must not count.
"""

from __future__ import annotations

from collections.abc import Callable

from torch.autograd.graph import Node

from otel_torch_modules._interruption import is_interruption
from otel_torch_modules._recording.live_marks import count_seen
from otel_torch_modules._recording.torch_private.autograd import executes

# How far to look for a node that a backward leaves out. One that leaves out some leaf shows it at the first module.
_MOST_LOOKED_AT = 256


def leaves_nodes_out(node: Node) -> bool:
    """Return whether the backward that runs now was asked for certain gradients only.

    Args:
        node: the node that the engine is at.
    """
    following = node.next_functions
    for _ in range(_MOST_LOOKED_AT):
        try:
            for after, _ in following:
                if after is not None and not executes(after):
                    return True
        except RuntimeError as error:  # a leaf by name
            if is_interruption(error):
                raise
            return True
        # Each node's are asked for once: that makes objects of Python.
        last = -1
        for after, _ in reversed(following):  # parameters come last, and one is enough
            if after is None:
                continue
            behind = after.next_functions
            if not behind:
                return False  # a leaf that nobody named gets its gradient
            number = after._sequence_nr()
            if number > last:  # into the last module, not along a residual
                last, made_last, further = number, after, behind
        if last < 0:
            return False
        count_seen(made_last)
        following = further
    return False


def stops_at(node: Node) -> bool:
    """Return whether a backward that leaves nodes out ends at `node`: nothing behind it runs, so neither does it."""
    following = [after for after, _ in node.next_functions if after is not None]
    for after in following:
        count_seen(after)
    try:
        return bool(following) and not any(executes(after) for after in following)
    except RuntimeError as error:
        if is_interruption(error):
            raise
        return False


def sparing_the_executed(attach: Callable[[Node], None]) -> Callable[[Node], None]:
    """Return `attach` for recompute: a node to which the backward that runs now comes is of a forward and has its mark.

    What a recompute makes is not. On an accelerator the two are made in different threads, whose numbers are not to be
    confused: the backward runs in a thread of the engine's own.
    """

    def attach_unless_executed(node: Node) -> None:
        try:  # not `suppressed`: a recompute comes by here for each of its modules
            if executes(node):
                return
        except RuntimeError as error:
            if is_interruption(error):
                raise
        attach(node)

    return attach_unless_executed
