"""Who holds a module that no other module's call has called: Lightning's ``training_step`` calls ``self.enc(x)``.

Frames are looked at once for each root, and only those of methods of modules. Reading a function's local variables
(before Python 3.13) makes a dictionary that lives as long as the frame does, and would keep a batch alive for as long.
So it is emptied, unless the program holds it.
"""

from __future__ import annotations

import inspect
import sys
from types import FrameType
from typing import NamedTuple

from torch import nn

from otel_torch_modules._recording.frames import program_frame
from otel_torch_modules._recording.modules.module_names import text_of, wraps
from otel_torch_modules._recording.modules.module_tree import way_to

_FRAMES = 4  # of the program's that are looked at
_CALLS = 3  # of ours around `holder_of`, at least
_REFERENCES = 3  # to the local variables: the frame's, `names`, and that of the call that counts


class Held(NamedTuple):
    """The module whose method has called another one that it holds, and the path to that one."""

    module: nn.Module
    path: str


def holder_of(module: nn.Module) -> Held | None:
    """Return by whose method `module`, which is called now, was called; None where that does not hold it."""
    frame = program_frame(_CALLS)
    for _ in range(_FRAMES):
        if frame is None:
            break
        holder = _module_of_method(frame)
        if holder is not None and holder is not module:
            way = way_to(module, holder)
            if way is not None:
                names = (text_of(name) for parent, name in way if not wraps(parent, name))
                return Held(holder, ".".join(names))
        frame = frame.f_back
    return None


def _module_of_method(frame: FrameType) -> nn.Module | None:
    code = frame.f_code
    if (
        not code.co_flags & inspect.CO_OPTIMIZED
        or not code.co_argcount
        or code.co_varnames[0] != "self"
        or not _may_be_a_module(frame)
    ):
        return None
    names = frame.f_locals
    first = names.get("self")
    if type(names) is dict and sys.getrefcount(names) <= _REFERENCES:
        names.clear()
    return first if isinstance(first, nn.Module) else None


def _may_be_a_module(frame: FrameType) -> bool:
    """Return whether the class in whose body the function was written is one of modules, or cannot be found."""
    written = getattr(frame.f_code, "co_qualname", "<locals>.").split(".")[
        :-1
    ]  # new in Python 3.11
    if not written or "<locals>" in written:
        return bool(written)
    found = frame.f_globals.get(written[0])
    for name in written[1:]:
        found = vars(found).get(name) if isinstance(found, type) else None
    return isinstance(found, type) and issubclass(found, nn.Module)
