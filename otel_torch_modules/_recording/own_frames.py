"""Takes our frames out of a traceback of the program's: each module call would be two lines that tell nothing."""

from __future__ import annotations

from types import CodeType, TracebackType


def leave_out(codes: frozenset[CodeType], error: BaseException) -> None:
    """Take the frames that run `codes` out of the tracebacks of `error` and of all that it names; each keeps its first.

    Args:
        codes: of ours.
        error: what the program gets.
    """
    known: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        named = left.pop()
        if named is None or id(named) in known:
            continue
        known.add(id(named))
        _leave_out(codes, named.__traceback__)
        left += (named.__cause__, named.__context__)
        left += getattr(named, "exceptions", ())  # of a group


def _leave_out(codes: frozenset[CodeType], entry: TracebackType | None) -> None:
    while entry is not None:
        after = entry.tb_next
        while after is not None and after.tb_frame.f_code in codes:
            after = after.tb_next
        if after is not entry.tb_next:
            entry.tb_next = after
        entry = after
