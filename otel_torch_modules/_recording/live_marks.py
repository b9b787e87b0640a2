"""How many autograd nodes Python has seen for our sake, and how many it may see.

torch (2.13) frees a chain of nodes by a loop, but those that Python has an object of by recursion: one chain of tens of
thousands, freed at once, is too deep for a stack of 8 MiB. And a node that Python has seen once keeps its object. So
whatever the program does with its graphs, there never are more such nodes than the smallest stack can take: no chain is
longer than all of them. What holds a reference is counted by Python, so nothing has to be told when a graph is freed.
"""

from __future__ import annotations

import ctypes
import sys
from sys import getrefcount
from typing import Final
from weakref import ref

from torch import Tensor
from torch.autograd.graph import Node

from otel_torch_modules._interruption import is_interruption, suppressed
from otel_torch_modules._recording.torch_private.node_marks import MarkHooks

_BYTES_A_NODE: Final = 768
"""Of the stack: twice what freeing one was seen to take at most (343 on x86-64, torch 2.13)."""

_LARGEST_STACK: Final = 8 << 20
_SMALLEST_STACK: Final = 1 << 20  # where it cannot be asked for

# `threading.stack_size` asks for what new threads get by setting it.
_stack_of_new_threads: Final = ctypes.PYFUNCTYPE(ctypes.c_size_t)(
    ("PyThread_get_stacksize", ctypes.pythonapi)
)

_KEY: Final = "otel_torch_modules"


class _NodesSeen:
    """Held by the nodes that were looked at and have no mark."""


_seen = _NodesSeen()
_seen_by_none = getrefcount(_seen)


_hooks = MarkHooks()
_held_without_carrier = getrefcount(_hooks)
del _hooks


class LiveMarks:
    """The marked nodes that are not freed yet, of all threads and of all that has ever traced."""

    def __init__(self) -> None:
        # Each is held once by each node, for as long as there is one; with what puts them on nodes, which ends with its
        # thread.
        self._watched: list[tuple[ref[MarkHooks], ref[Tensor]]] = []
        self._held_by_none = 0  # how often they are held apart from that, while their carrier lives
        self._most = _LARGEST_STACK // _BYTES_A_NODE

    def watch(self, carrier: Tensor) -> None:
        """Count what the `carrier` of this thread marks."""
        self._most = min(self._most, _stack_of_this_thread() // _BYTES_A_NODE)
        hooks = carrier._backward_hooks
        assert isinstance(hooks, MarkHooks)
        self._held_by_none = self._held_by_none or getrefcount(hooks)
        self._watched.append((ref(hooks), ref(carrier)))

    def room(self) -> int:
        """Return how many more nodes may be marked."""
        seen = getrefcount(_seen) - _seen_by_none
        for watched in list(self._watched):
            hooks, carrier = watched[0](), watched[1]()
            if hooks is None:
                with suppressed(ValueError):  # another thread was as fast
                    self._watched.remove(watched)
            else:
                seen += getrefcount(hooks)
                seen -= _held_without_carrier if carrier is None else self._held_by_none
        return min(self._most, (_stack_of_new_threads() or _LARGEST_STACK) // _BYTES_A_NODE) - seen


live_marks: Final = LiveMarks()


def count_seen(node: Node) -> None:
    """Count `node`, which was looked at, and gets no mark, for as long as it lives."""
    node.metadata[_KEY] = _seen  # type: ignore[index]


def _stack_of_this_thread() -> int:
    """Return the size of the stack of the thread that asks, in bytes."""
    try:
        if sys.platform == "darwin":
            size = ctypes.CDLL(None).pthread_get_stacksize_np
            size.restype = ctypes.c_size_t
            return int(size(_this_thread()))
        libc = ctypes.CDLL(None)
        attributes = (ctypes.c_char * 256)()  # a pthread_attr_t is smaller
        found = ctypes.c_size_t()
        if libc.pthread_getattr_np(_this_thread(), attributes):
            return _SMALLEST_STACK
        libc.pthread_attr_getstacksize(attributes, ctypes.byref(found))
        libc.pthread_attr_destroy(attributes)
    except (OSError, AttributeError) as error:  # no such library, or no such function
        if is_interruption(error):
            raise
        return _SMALLEST_STACK
    return found.value


def _this_thread() -> ctypes.c_void_p:
    """Return the thread that asks as the system knows it: Python's identifier may be a greenlet's."""
    asked = ctypes.CDLL(None).pthread_self
    asked.restype = ctypes.c_void_p
    return ctypes.c_void_p(asked())
