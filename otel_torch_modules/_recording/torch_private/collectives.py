"""The operators of collectives, and the ring of the last ones."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

import torch

from otel_torch_modules._interruption import is_interruption


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
_AFTER_US: Final = torch._C._dispatch_keyset_full_after(torch._C.DispatchKey.BackendSelect)


class CollectiveOperator(NamedTuple):
    """An operator of ``c10d``, and where its arguments have what.

    Args:
        name: without ``c10d::``.
        overload: itself.
        group: the place of the process group.
        async_op: that of whether the caller goes on at once; None before torch 2.8 and where all do.
    """

    name: str
    overload: Any
    group: int
    async_op: int | None

    def is_async(self, args: tuple[Any, ...]) -> bool | None:
        """Return whether a caller with these arguments goes on at once; None where torch does not say."""
        if self.async_op is None:
            return None
        return bool(args[self.async_op]) if self.async_op < len(args) else True  # the default

    def launch(self, keys: Any, args: tuple[Any, ...]) -> Any:
        """Go on to torch's kernel without the interpreter lock: it may wait for a thread that wants that.

        ``torch.library.get_kernel`` has a way there too, which keeps the lock: with it gloo hangs now and then.
        """
        return self.overload.redispatch(keys & _AFTER_US, *args)


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
    try:
        for name in names:
            operator = _collective_operator(name)
            if operator is not None:
                library.impl(name, kernel(operator), _OURS, with_keyset=True)
    except BaseException:
        library._destroy()
        raise
    undo: Callable[[], object] = library._destroy
    return undo


def _collective_operator(name: str) -> CollectiveOperator | None:
    try:
        overload = getattr(torch.ops.c10d, name).default
    except AttributeError as error:
        if is_interruption(error):
            raise
        return None
    places = {argument.name: place for place, argument in enumerate(overload._schema.arguments)}
    return CollectiveOperator(
        name, overload, places["process_group"], places.get("async_op", places.get("asyncOp"))
    )


def tells_when_done(result: Any, callback: Callable[[Any], object]) -> bool:
    """Have `callback` called when what an operator of ``c10d`` has launched is done; return whether its work says that.

    Args:
        result: what the operator returned.
        callback: called once, in a thread of the backend's, or now.
    """
    work = result[-1] if isinstance(result, (tuple, list)) else result
    if isinstance(work, torch.ScriptObject):
        work = torch.distributed.Work.unbox(work)
    try:
        work.get_future().add_done_callback(callback)
    except RuntimeError as error:  # it has no future
        if is_interruption(error):
            raise
        return False
    return True


def group_of(boxed: Any) -> tuple[str, int]:
    """Return the name of a process group that an operator is given, and how many ranks it has."""
    group = boxed
    if isinstance(boxed, torch.ScriptObject):
        group = torch.distributed.ProcessGroup.unbox(boxed)
    described = group.group_desc
    return (group.group_name if described in ("", "undefined") else described), group.size()
