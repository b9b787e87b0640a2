"""The operators of collectives, and the ring of the last ones."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

import torch
from torch import ScriptObject, distributed

from otel_torch_modules._interruption import is_interruption

if distributed.is_available():  # built into this torch
    from torch.distributed import ProcessGroup, Work


def collectives_dump() -> str | None:
    """Return torch's ring of the last collectives as JSON; None where there is none.

    NCCL has had it long, gloo since 2.13. With two thousand in it this takes 76 ms.
    """
    engine: Any = sys.modules.get("torch._C._distributed_c10d")
    for name in ("_dump_fr_trace_json", "_dump_nccl_trace_json"):
        dump = getattr(engine, name, None)
        if dump is not None:
            text: str = dump(True, False)
            return text
    return None


# No operator of `c10d` has a kernel there, and every call passes it: above the backends, below autograd.
_OURS: Final = "BackendSelect"
AFTER_US: Final = torch._C._dispatch_keyset_full_after(torch._C.DispatchKey.BackendSelect)
"""The dispatch keys that come after what :func:`stand_before` puts there."""


class CollectiveOperator(NamedTuple):
    """An operator of ``c10d``, and where its arguments have what.

    Args:
        name: without ``c10d::``.
        launch: goes on to torch's kernel, with those of the dispatch keys that are in `AFTER_US` and the arguments. It
            lets go of the interpreter lock, for it may wait for a thread that wants that: ``torch.library.get_kernel``
            has a way there too, which keeps the lock, and with it gloo hangs now and then.
        group: the place of the process group.
        async_op: that of whether the caller goes on at once, which it does where the argument is not given; None before
            torch 2.8 and where there is none.
    """

    name: str
    launch: Callable[..., Any]
    group: int
    async_op: int | None


def stand_before(
    names: Iterable[str], kernel: Callable[[CollectiveOperator], Callable[..., Any]]
) -> Callable[[], object]:
    """Have each operator of ``c10d`` with one of these names go through a kernel of Python's; return the undo.

    Args:
        names: of operators; those that this version has not are left out.
        kernel: returns that of an operator. It is called with the dispatch keys and the operator's arguments, without
            the last ones where these are the defaults, and has to return what `CollectiveOperator.launch` does.
    """
    library: Any = torch.library.Library("c10d", "IMPL")  # type: ignore[no-untyped-call]
    put: list[str] = []

    def undo() -> None:
        global _taken_off
        _taken_off = [_kept(name) for name in put]
        library._destroy()

    try:
        for name in names:
            operator = _collective_operator(name)
            if operator is not None:
                library.impl(name, kernel(operator), _OURS, with_keyset=True)
                put.append(name)
    except BaseException:
        undo()
        raise
    return undo


_taken_off: list[Any] = []
"""The kernels that were taken off last: another thread may be on its way into one, and wait for the interpreter lock
there. Torch would have freed it by then, and the process would be gone.
"""


def _kept(name: str) -> Any:
    """Return what keeps the kernel of Python's alive that stands before torch's; None before torch 2.9."""
    get_kernel = getattr(torch.library, "get_kernel", None)
    return None if get_kernel is None else get_kernel(f"c10d::{name}", _OURS)


def _collective_operator(name: str) -> CollectiveOperator | None:
    try:
        overload = getattr(torch.ops.c10d, name).default
    except AttributeError as error:
        if is_interruption(error):
            raise
        return None
    places = {argument.name: place for place, argument in enumerate(overload._schema.arguments)}
    return CollectiveOperator(
        name,
        overload._handle.redispatch_boxed,
        places["process_group"],
        places.get("async_op", places.get("asyncOp")),
    )


def tells_when_done(result: Any, callback: Callable[[Any], object]) -> bool:
    """Have `callback` called when what an operator of ``c10d`` has launched is done; return whether its work says that.

    Args:
        result: what the operator returned.
        callback: called once, in a thread of the backend's, or now.
    """
    work = result[-1] if type(result) is tuple else result
    if type(work) is ScriptObject:
        work = Work.unbox(work)
    try:
        work.get_future().add_done_callback(callback)
    except RuntimeError as error:  # it has no future
        if is_interruption(error):
            raise
        return False
    return True


def group_of(boxed: Any) -> tuple[str, int]:
    """Return the name of a process group that an operator is given, and how many ranks it has."""
    group = ProcessGroup.unbox(boxed) if type(boxed) is ScriptObject else boxed
    described = group.group_desc
    return (group.group_name if described in _NOT_DESCRIBED else described), group.size()


_NOT_DESCRIBED: Final = ("", "undefined")
