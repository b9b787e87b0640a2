"""Keeps Dynamo off our own frames, and us off the modules that it makes.

In a compiled region Dynamo compiles every frame that is not part of a graph: where a graph broke, that would be the
wrapper around ``nn.Module.__call__`` and what it calls. The wrapper is one function for all modules, so each module
would be a recompilation, up to the limit. Dynamo skips the frames of ``torch.nn`` that ours stands in for; ours are
skipped in the same way. Tracing *through* them, where a caller is compiled, is another matter and goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from types import CodeType, FunctionType, ModuleType

from torch import nn
from torch.fx import GraphModule

from otel_torch_modules._recording.class_attributes import class_name
from otel_torch_modules._recording.frames import OURS, program_frame
from otel_torch_modules._recording.modules.module_names import COMPILED, shown
from otel_torch_modules._recording.torch_private.compilation import GRAPH_RUNNERS, skip_frames_of

_EXAMPLES = f"{OURS}examples"  # programs as any other

# Frames between our wrapper and the one that runs a compiled graph, and a few to spare.
_FRAMES = 12


def skip_own_frames() -> None:
    """Have Dynamo never compile the functions of this package as frames of their own."""
    for name, module in list(sys.modules.items()):
        if name.startswith(OURS) and not name.startswith(_EXAMPLES):
            for code in _codes_of(module):
                skip_frames_of(code)


def made_by_compiler(module: nn.Module) -> bool:
    """Return whether `module`, which is being called now, is a graph that a compiler's backend runs.

    The debugging backends call such a graph as a module. It is none of the program's; one that the program made itself,
    by `torch.fx` or `torch.export`, is.
    """
    if class_name(type(module)) == COMPILED:
        module = shown(module)
    if not issubclass(type(module), GraphModule):
        return False
    frame = program_frame()
    for _ in range(_FRAMES):
        if frame is None:
            break
        if frame.f_globals.get("__name__", "").startswith(GRAPH_RUNNERS):
            return True
        frame = frame.f_back
    return False


@cache  # finding them took a third of the time in which tracing is put on and taken off
def _codes_of(module: ModuleType) -> list[CodeType]:
    return list(_defined_in(module))


def _defined_in(module: ModuleType) -> Iterator[CodeType]:
    for value in vars(module).values():
        members = vars(value).values() if isinstance(value, type) else (value,)
        for member in members:
            function = member.fget if isinstance(member, property) else member
            function = getattr(function, "__wrapped__", function)
            if isinstance(function, FunctionType) and function.__module__ == module.__name__:
                yield from _with_inner(function.__code__)


def _with_inner(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _with_inner(constant)
