"""What the recorder keeps for each thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import perf_counter_ns as now
from typing import Any, Final
from weakref import ref

from torch.autograd.graph import Node

from otel_torch_modules._events import EXIT
from otel_torch_modules._interruption import is_interruption
from otel_torch_modules._recording.captures import sparing_the_executed
from otel_torch_modules._recording.live_marks import live_marks
from otel_torch_modules._recording.open_log import SLOTS_PER_MARK, OpenLog
from otel_torch_modules._recording.torch_private.autograd import RECOMPUTED, sequence_number
from otel_torch_modules._recording.torch_private.node_marks import mark_carrier, marks_by
from otel_torch_modules._records import Raised
from otel_torch_modules._site import Site
from otel_torch_modules._texts import NO_ROOM, describe_error

_MARKED_BY: Final = "otel_torch_modules.marked_by"
_MOST_MARKS: Final = 8  # of a node that is older than what it is given to


class ThreadState:
    """What the recorder knows of a thread."""

    __slots__ = (
        "__weakref__",
        "attach",
        "attach_in_recompute",
        "attach_mark",
        "code",
        "code_if_python",
        "fail",
        "first",
        "into",
        "last_input",
        "last_output",
        "mark_key",
        "marked",
        "minted",
        "own",
        "raised",
        "returned",
        "returned_at",
        "root_only",
        "stack",
    )

    def __init__(
        self,
        code: int,
        mark: Callable[[Any], None],
        shared: OpenLog,
        fail: Callable[[str], bool],
    ) -> None:
        self.code = code
        self.fail = fail  # see `Recorder.fail`
        self.into = shared  # what the last root call wrote to
        self.own: OpenLog | None = None  # the thread's own, while what it does is no step's
        self.stack: list[Site] | None = []  # open calls; None while a root call is left out
        self.minted: dict[int, int] = {}  # depth of an open call -> span id the program asked for
        self.last_input = -1  # sequence numbers of the nodes marked last: a node that two
        self.last_output = -1  # calls share, end of the one and start of the other, has one mark
        # The sequence number that was next when a call last began: none was given what was made since.
        self.first = sequence_number()
        self.marked: set[int] = set()  # the same, of those in containers, since a root call began
        # What the last call returned, by its id, if it has its mark, and the sequence number then. Until a node is made
        # it is that tensor: a new one with this id would have no node.
        self.returned = 0
        self.returned_at = -1
        self.root_only = False  # a root call is open that is recorded alone
        self.raised = 0  # id of the exception that is passing through the open calls
        carrier = mark_carrier(mark)
        live_marks.watch(carrier)
        self.attach_mark: Callable[[Node], None] = marks_by(carrier)
        self.attach_in_recompute = sparing_the_executed(self.attach_mark)
        self.attach = self.attach_mark  # how the open root call marks nodes
        # In what a node keeps that was marked for more than the call that made it.
        self.mark_key = object()
        # Autograd's device threads are not Python's: there is no telling who called backward.
        self.code_if_python = self.code if _is_python_thread() else None

    def attach_to_older(self, node: Node) -> None:
        """Mark `node`, unless it was for an earlier call: what keeps its graph may be given to one in each step.

        It may have one mark more, of the call that made it. Each thread marks it, for numbers are a thread's own, up to
        some of them.
        """
        kept: Any = node.metadata
        marked_by = kept.setdefault(_MARKED_BY, [])
        if self.mark_key not in marked_by and len(marked_by) < _MOST_MARKS:
            marked_by.append(self.mark_key)
            self.attach(node)

    def attach_to_inputs(self, nodes: list[Node], first: int) -> None:
        """Mark those of `nodes`, of what a call is given, that have no mark; `first` is the next sequence number."""
        self._attach_to_each(nodes, self.first, first)
        self.first = first

    def attach_to_outputs(self, nodes: list[Node], first: int, last: int) -> None:
        """Mark those of `nodes`, of what a call returned, that have no mark.

        Args:
            nodes: in order, and at least one.
            first: the sequence number that was next when the call began.
            last: the one that is next now.
        """
        self._attach_to_each(nodes, first, last)
        number = nodes[-1]._sequence_nr()
        if first <= number < last:
            self.last_output = number

    def _attach_to_each(self, nodes: list[Node], first: int, last: int) -> None:
        # What holds them is handed from module to module, and each mark costs a backward some microseconds. Those whose
        # numbers lie between the two are new: no earlier call was given them.
        for node in nodes:
            number = node._sequence_nr()
            if number not in self.marked:
                self.marked.add(number)
                if number not in (self.last_input, self.last_output):
                    self.into.marks_end -= SLOTS_PER_MARK
                    if first <= number < last:
                        self.attach(node)
                    else:
                        self.attach_to_older(node)

    def leave_by_exception(self, log: list[Any], stack: list[Site], error: BaseException) -> None:
        """Take note that the innermost call of `stack` raised `error`."""
        try:
            end = now()
            raised = None
            if not isinstance(error, RECOMPUTED):  # how recompute ends early: no error
                raised = self._describe(error)
            log.extend((EXIT, self.code, sequence_number(), end, raised))
            if self.minted:
                self.minted.pop(len(stack), None)
            stack.pop()
        except RecursionError:
            raise  # see there
        except BaseException:
            if self.fail("while a module's call raised"):
                raise

    def _describe(self, error: BaseException) -> Raised:
        try:
            raised = describe_error(error, with_stacktrace=self.raised != id(error))
        except RecursionError as full:
            if is_interruption(full):
                raise
            return NO_ROOM  # the call around this one has more
        self.raised = id(error)
        return raised


class KnownThreads:
    """The states of the threads that live, by their identifiers, for who looks on from another one."""

    def __init__(self) -> None:
        self._states: dict[int, ref[ThreadState]] = {}
        self._lock = threading.RLock()

    def add(self, state: ThreadState) -> None:
        """Know the thread that asks by `state`."""
        with self._lock:
            for identifier, known in list(self._states.items()):
                if known() is None:
                    del self._states[identifier]
            self._states[threading.get_ident()] = ref(state)

    def get(self, identifier: int) -> ThreadState | None:
        """Return the state of a thread; None where it has called no module, or is gone."""
        known = self._states.get(identifier)
        return None if known is None else known()

    def living(self) -> list[tuple[int, ThreadState]]:
        """Return all with their identifiers."""
        found = [(identifier, known()) for identifier, known in list(self._states.items())]
        return [(identifier, state) for identifier, state in found if state is not None]


class Threads(threading.local):
    """The state of each thread, made where it is first asked for."""

    def __init__(self, new: Callable[[], ThreadState]) -> None:
        self.state = new()


def _is_python_thread() -> bool:
    return any(
        thread.ident == threading.get_ident() and not isinstance(thread, threading._DummyThread)
        for thread in threading.enumerate()
    )
