"""Collectives of every caller: DDP's reducer, FSDP, functional and object collectives, pipelines, the program itself.

All of them come to the operators ``c10d::allreduce_`` and so on of torch's dispatcher, whoever calls. From the first
record on that opens while a process group is there a kernel of Python's stands before torch's own, and lets go of the
interpreter lock before it goes on to that: gloo's threads want this lock where a collective is done, and torch's
kernels wait for a lock that these threads may hold meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from time import perf_counter_ns as now
from typing import Any, Final, NamedTuple

from torch import distributed

from otel_torch_modules._interruption import is_interruption
from otel_torch_modules._log import inform
from otel_torch_modules._recording.causes.happened import Happened
from otel_torch_modules._recording.torch_private.collectives import (
    CollectiveOperator,
    group_of,
    stand_before,
    tells_when_done,
)
from otel_torch_modules._records import COLLECTIVE, Detail

_logger = logging.getLogger(__name__)

_IS_AVAILABLE: Final = distributed.is_available()  # built into this torch


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
        records: returns whether such a step is open.
    """

    def __init__(self, happened: Happened, records: Callable[[], bool]) -> None:
        self._happened = happened
        self._records = records
        self._guarded_note = happened.guarded(self._note, "after a collective was launched")
        self._undo: Callable[[], object] | None = None

    def install(self) -> None:
        """Stand before torch's kernels, if there is a process group."""
        self.record_opens()

    def uninstall(self) -> None:
        """Undo `install`."""
        undo, self._undo = self._undo, None
        if undo is not None:
            undo()

    def record_opens(self) -> None:
        """Stand before torch's kernels where a process group has come since."""
        if self._undo is None and _IS_AVAILABLE and distributed.is_initialized():
            self._undo = bool  # not once more, whatever comes of it
            try:
                self._undo = stand_before(_KINDS, self._kernel)
            except Exception as error:
                if is_interruption(error):
                    raise
                inform(_logger, "Collectives are not recorded: %s", error)

    def _kernel(self, operator: CollectiveOperator) -> Callable[..., Any]:
        """Return what stands before torch's kernel of `operator`."""
        records, note, launch = self._records, self._guarded_note, operator.launch

        def kernel(keys: Any, *args: Any) -> Any:
            if not records():
                return launch(keys, args)
            start = now()
            result = launch(keys, args)
            note(operator, args, start, now(), result)
            return result

        return kernel

    def _note(
        self, operator: CollectiveOperator, args: tuple[Any, ...], start: int, end: int, result: Any
    ) -> None:
        name, tensors = _KINDS[operator.name]
        size, dtype, on_cpu = _given(args[tensors])
        done: list[int] = []
        # Of C alone: where it is done already this is called here, and what a signal handler raised would be lost.
        note_when = partial(next, map(done.append, iter(now, None)))
        if result is None:  # it has waited
            done.append(end)
            known = True
        else:  # on a device all that is launched counts as done
            known = on_cpu and tells_when_done(result, note_when)
        carried = (None, None) if name == "barrier" else (size, dtype)
        group = group_of(args[operator.group])
        values = (*carried, *group, operator.is_async(args), done if known else None)
        happened = self._happened
        happened.add(COLLECTIVE, happened.code(), start, end, Detail(name, values))


def _given(value: Any) -> tuple[int, str | None, bool]:
    """Return the bytes of the tensors in a list of tensors or of lists of them, or of one; their dtype; on the CPU?"""
    size, dtype, on_cpu = 0, None, False
    found = [value]
    for thing in found:
        if isinstance(thing, list):
            found += thing
        else:
            size += thing.numel() * thing.element_size()
            dtype, on_cpu = thing.dtype, thing.is_cpu
    return size, None if dtype is None else str(dtype), on_cpu
