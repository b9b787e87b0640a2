"""Collectives of every caller: DDP's reducer, FSDP, functional and object collectives, pipelines, the program itself.

All of them come to the operators ``c10d::allreduce_`` and so on of torch's dispatcher, whoever calls. From the first
step on that has modules and opens while a process group is there a kernel of Python's stands before torch's own, and
lets go of the interpreter lock before it goes on to that: gloo's threads want this lock where a collective is done, and
torch's kernels wait for a lock that these threads may hold meanwhile. It stays there in steps without modules: where
another thread launches while a kernel is put there or taken off, torch may find neither.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache, partial
from time import perf_counter_ns as now
from typing import Any, Final, NamedTuple

from otel_torch_modules._events import COLLECTIVE, Detail
from otel_torch_modules._interruption import is_interruption
from otel_torch_modules._log import inform
from otel_torch_modules._recording.causes.happened import Happened
from otel_torch_modules._recording.open_log import OpenLog
from otel_torch_modules._recording.torch_private.collectives import (
    AFTER_US,
    CollectiveOperator,
    group_of,
    stand_before,
    tells_when_done,
)

_logger = logging.getLogger(__name__)

_NOW: Final = iter(now, None)  # gives the time, each time
_name_of: Final = cache(str)  # of a dtype


class _Kind(NamedTuple):
    """What is known of an operator.

    Args:
        name: the field's.
        tensors: which argument has what counts: what this rank gives, or, where only one rank gives, what is taken.
    """

    name: str
    tensors: int


_KINDS: Final = {
    "allreduce_": _Kind("all_reduce", 0),
    "allreduce_coalesced_": _Kind("all_reduce", 0),
    "allgather_": _Kind("all_gather", 1),
    "_allgather_base_": _Kind("all_gather", 1),
    "allgather_coalesced_": _Kind("all_gather", 1),
    "allgather_into_tensor_coalesced_": _Kind("all_gather", 1),
    "reduce_scatter_": _Kind("reduce_scatter", 1),
    "_reduce_scatter_base_": _Kind("reduce_scatter", 1),
    "reduce_scatter_tensor_coalesced_": _Kind("reduce_scatter", 1),
    "broadcast_": _Kind("broadcast", 0),
    "alltoall_": _Kind("all_to_all", 1),
    "alltoall_base_": _Kind("all_to_all", 1),
    "reduce_": _Kind("reduce", 0),
    "gather_": _Kind("gather", 1),
    "scatter_": _Kind("scatter", 0),
    "barrier": _Kind("barrier", 0),
    "monitored_barrier_": _Kind("barrier", 0),
    "send": _Kind("send", 0),
    "recv_": _Kind("recv", 0),
    "recv_any_source_": _Kind("recv", 0),
}


class Collectives:
    """Adds a cause for each collective of a step whose modules are recorded, when asked to.

    Args:
        happened: what it is added to.
        of_step: what is recorded of the open step, or of the one that comes.
    """

    def __init__(self, happened: Happened, of_step: OpenLog) -> None:
        self._happened = happened
        self._of_step = of_step
        self._launched = 0
        # What is left of all this for a thread that is still in a kernel when that was taken off.
        self._listening: list[Collectives | None] = [None]
        self._undo: Callable[[], object] | None = None

    def install(self) -> None:
        """Nothing yet: see `modules_open`."""

    def uninstall(self) -> None:
        """Undo `modules_open`."""
        undo, self._undo = self._undo, None
        self._listening[0] = None
        if undo is not None:
            undo()

    def modules_open(self) -> None:
        """Stand before torch's kernels: a step opens whose modules are recorded, while there is a process group."""
        if self._undo is None:
            self._undo = bool  # not once more, whatever comes of it
            self._listening[0] = self
            try:
                self._undo = stand_before(_KINDS, self._kernel)
            except BaseException as error:
                if is_interruption(error):
                    raise
                inform(_logger, "Collectives are not recorded: %s", error)

    def take_launched(self) -> int:
        """Return how many have passed the kernels since this was asked last."""
        launched, self._launched = self._launched, 0
        return launched

    def _kernel(self, operator: CollectiveOperator) -> Callable[..., Any]:
        """Return what stands before torch's kernel of `operator`."""
        launch, listening, of_step = operator.launch, self._listening, self._of_step
        note, fail = self._note(operator), self._happened.fail

        def kernel(keys: Any, *args: Any) -> Any:
            listener = listening[0]
            if listener is None:
                return launch(keys & AFTER_US, *args)
            listener._launched += 1
            if not of_step.in_full:
                return launch(keys & AFTER_US, *args)
            start = now()
            result = launch(keys & AFTER_US, *args)
            try:
                note(args, start, now(), result)
            except BaseException:
                if fail("after a collective was launched"):
                    raise
            return result

        return kernel

    def _note(self, operator: CollectiveOperator) -> Callable[..., None]:
        """Return what adds a collective of `operator`: of few calls, for the program waits for it.

        After what torch has done each takes three times what it takes again and again.
        """
        name, tensors = _KINDS[operator.name]
        group_at, async_at = operator.group, operator.async_op
        add, code, is_barrier = self._happened.kept.append, self._happened.code, name == "barrier"

        def note(args: tuple[Any, ...], start: int, end: int, result: Any) -> None:
            given = args[tensors]
            if type(given) is list and len(given) == 1:
                (given,) = given
            if type(given) is list:
                size, dtype, on_cpu = _of_all(given)
            else:
                size, dtype = given.numel() * given.element_size(), _name_of(given.dtype)
                on_cpu = given.is_cpu
            if is_barrier:
                size = dtype = None
            done: list[int] = []
            if result is None:  # it has waited
                done.append(end)
                known = True
            else:  # on a device all that is launched counts as done
                # Of C alone: where it is done this is called here, and what a signal handler raised would be lost.
                known = on_cpu and tells_when_done(result, partial(next, map(done.append, _NOW)))
            group, ranks = group_of(args[group_at])
            is_async = None if async_at is None else async_at >= len(args) or args[async_at]
            values = (size, dtype, group, ranks, is_async, done if known else None)
            add((COLLECTIVE, code(), start, end, Detail(name, values)))

        return note


def _of_all(given: list[Any]) -> tuple[int | None, str | None, bool]:
    """Return the bytes of the tensors in a list of tensors or of lists of them; their dtype; whether on the CPU."""
    size, dtype, on_cpu = 0, None, False
    found = [*given]
    for thing in found:
        if type(thing) is list:
            found += thing
        else:
            size += thing.numel() * thing.element_size()
            dtype, on_cpu = _name_of(thing.dtype), thing.is_cpu
    return size, dtype, on_cpu
