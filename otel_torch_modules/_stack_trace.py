"""An exception's stack trace as text, written so that nothing takes what a signal handler of the program's raises.

`traceback` does, and is slower: it looks for the part of each line that was running.
"""

from __future__ import annotations

import builtins
import linecache
import traceback
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from types import TracebackType
from typing import Any, Final

from otel_torch_modules._interruption import is_interruption
from otel_torch_modules._undisturbed import undisturbed

_GROUP: Final = getattr(builtins, "BaseExceptionGroup", ())  # new in Python 3.11

_CAUSE: Final = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT: Final = "\nDuring handling of the above exception, another exception occurred:\n\n"


def stack_trace(error: BaseException) -> str:
    """Return what Python prints where `error` is not caught, without marks below the parts of lines."""
    chain = _chain(error)
    if any(isinstance(one, _GROUP) for one, _ in chain):  # a tree of many traces
        return "".join(undisturbed(partial(traceback.format_exception, error)) or ())
    return "".join(line for one, joint in chain for line in (*_lines(one), joint))


def class_name(error: BaseException) -> str:
    """Return the name of the class of `error` as Python prints it."""
    kind = type(error)
    if kind.__module__ in ("builtins", "__main__"):
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def text_of(error: BaseException) -> str:
    """Return what `error` says."""
    return _text(error, "<its text cannot be had>")


def _chain(error: BaseException) -> list[tuple[BaseException, str]]:
    """Return the errors that led to `error` and itself, each with what stands between it and the next."""
    found = [(error, "")]
    known = {id(error)}
    while True:
        joint, before = _CAUSE, error.__cause__
        if before is None and not error.__suppress_context__:
            joint, before = _CONTEXT, error.__context__
        if before is None or id(before) in known:
            return found[::-1]
        known.add(id(before))
        found.append((before, joint))
        error = before


def _lines(error: BaseException) -> Iterator[str]:
    if error.__traceback__ is not None:
        yield "Traceback (most recent call last):\n"
        yield from traceback.StackSummary.from_list([*_frames(error.__traceback__)]).format()
    name, text = class_name(error), _text(error, "<exception str() failed>")
    yield f"{name}: {text}\n" if text else f"{name}\n"
    notes = vars(error).get("__notes__")
    for note in notes if isinstance(notes, (list, tuple)) else ():
        yield f"{_text(note, '<note str() failed>')}\n"


def _frames(entry: TracebackType | None) -> Iterator[tuple[str, int, str, str]]:
    while entry is not None:
        code = entry.tb_frame.f_code
        source = _source(code.co_filename)
        line = source[entry.tb_lineno - 1] if 0 < entry.tb_lineno <= len(source) else ""
        yield code.co_filename, entry.tb_lineno, code.co_name, line.strip()
        entry = entry.tb_next


@lru_cache(maxsize=1024)
def _source(name: str) -> Sequence[str]:
    """Return the lines of the file `name` as they are when it is first asked for."""
    return undisturbed(partial(linecache.getlines, name)) or ()


def _text(thing: Any, otherwise: str) -> str:
    try:
        return str(thing)
    except BaseException as error:
        if is_interruption(error):
            raise
        return otherwise
