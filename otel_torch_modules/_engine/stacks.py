"""Where a thread stands, read from its Python frames by another thread.

Frames are let go of at once: a frame that is held keeps all that its function has, the program's tensors among it.
"""

from __future__ import annotations

import dis
import os.path
import sys
import threading
from collections.abc import Iterator
from functools import lru_cache
from types import CodeType, FrameType
from typing import Any, NamedTuple

from otel_torch_modules._texts import encodable

_OURS = __name__.partition(".")[0]
_RECORDING = f"{_OURS}._recording."

# They call whatever comes next, a cell of a notebook for one. Where one of them waits nobody waits for the program.
_DISPATCHERS = frozenset(
    {"IPython", "colab_kernel_launcher", "google", "ipykernel", "ipykernel_launcher", "marimo"}
    | {"streamlit", "tornado", "traitlets", "zmq"}
)
_DEBUGGERS = frozenset({"_pydevd_bundle", "bdb", "debugpy", "ipdb", "pdb", "pdbpp", "pydevd"})

# Modules of torch whose frames are there while something is compiled, not while it runs.
_COMPILERS = (
    "torch._dynamo.convert_frame",
    "torch._inductor.async_compile",
    "torch._inductor.compile_fx",
    "torch._inductor.runtime.triton_heuristics",
)

_MOST_SHOWN = 5  # frames of the program's, the innermost
_MOST_FRAMES = 100  # of a thread
_MOST_TEXT = 30_000  # characters, of all threads


class Position(NamedTuple):
    """One call that runs, and how far it has come."""

    frame: int  # its id: the same as long as the call runs
    code: CodeType
    instruction: int  # offset of the last one, in bytes


class Level(NamedTuple):
    """One frame as text and numbers."""

    module: str
    position: Position
    line: int
    traced: bool  # by a debugger

    @property
    def package(self) -> str:
        """The first part of the module's name."""
        return self.module.partition(".")[0]

    @property
    def of_program(self) -> bool:
        """Whether it is neither Python's own, nor torch's, nor ours, nor a dispatcher's."""
        package = self.package
        return not (
            package in sys.stdlib_module_names
            or package in (_OURS, "torch")
            or package in _DISPATCHERS
        )


class Stack(tuple[Level, ...]):
    """The frames of one thread, the outermost first."""

    __slots__ = ()

    @property
    def in_recording(self) -> bool:
        """Whether a module's call runs, or a wait for data."""
        return any(level.module.startswith(_RECORDING) for level in self)

    @property
    def in_torch(self) -> bool:
        """Whether the program has called something of torch's that has not come back."""
        program = False
        for level in self:
            if program and level.package == "torch":
                return True
            program |= level.of_program
        return False

    @property
    def in_program(self) -> bool:
        """Whether any of the program's own functions runs."""
        return any(level.of_program for level in self)

    @property
    def is_debugged(self) -> bool:
        """Whether a debugger has to do with it: what the thread that is debugged alone could ask `sys.gettrace`."""
        return any(level.traced or level.package in _DEBUGGERS for level in self)

    @property
    def is_compiling(self) -> bool:
        """Whether Dynamo or Inductor compiles something."""
        return any(level.module.startswith(_COMPILERS) for level in self)

    def repeats(self, earlier: tuple[Position, ...]) -> bool:
        """Return whether a loop of the program's goes on that ran when the stack was `earlier`.

        That is a call that was there then and is there now, in the same ``for`` or ``while``.
        """
        then = {(position.frame, position.code): position.instruction for position in earlier}
        for level in self:
            now = level.position
            before = then.get((now.frame, now.code))
            if before is not None and level.of_program:
                for first, last in _loops(now.code):
                    if first <= before <= last and first <= now.instruction <= last:
                        return True
        return False

    def __str__(self) -> str:
        """The way through the program, and where in torch or in Python's library it ends."""
        program = [place for place, level in enumerate(self) if level.of_program]
        shown = [_file_and_line(self[place]) for place in program[-_MOST_SHOWN:]]
        if len(program) > _MOST_SHOWN:
            shown.insert(0, "…")
        below = self[program[-1] + 1 if program else 0 :]
        of_torch = [level for level in below if level.package == "torch"]
        others = [level for level in below if level.package != _OURS]
        if of_torch:
            folder = of_torch[-1].module.split(".")[:-1]
            shown.append("/".join([*folder, "…"]) + of_torch[-1].position.code.co_name)
        elif others:
            shown.append(f"{others[-1].module}.{others[-1].position.code.co_name}")
        return " → ".join(shown)


def stack_of(thread: int) -> Stack:
    """Return where the thread with this identifier stands; nothing where it runs no Python."""
    return Stack(_levels(sys._current_frames().get(thread)))


def positions_of(thread: int) -> tuple[Position, ...]:
    """Return the same without names: as little as `Stack.repeats` needs."""
    frame = sys._current_frames().get(thread)
    found = []
    while frame is not None:
        found.append(Position(id(frame), frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return tuple(found)


def all_stacks() -> str:
    """Return the stacks of all threads but the one that asks, as text without source lines.

    These would be read from disk, and a disk that hangs may be what is looked for.
    """
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    text = ""
    for thread in list(sys._current_frames()):
        if thread == threading.get_ident():
            continue
        levels = stack_of(thread)
        text += f"Thread {names.get(thread, thread)} (most recent call last):\n"
        for level in levels[-_MOST_FRAMES:]:
            code = level.position.code
            text += f'  File "{code.co_filename}", line {level.line}, in {code.co_name}\n'
    return encodable(text[:_MOST_TEXT])


def _levels(frame: FrameType | None) -> list[Level]:
    found = []
    while frame is not None:
        position = Position(id(frame), frame.f_code, frame.f_lasti)
        traced = frame.f_trace is not None
        found.append(Level(_module(frame.f_globals), position, frame.f_lineno or 0, traced))
        frame = frame.f_back
    return found[::-1]


def _module(names: dict[str, Any]) -> str:
    name = str(names.get("__name__"))
    if name == "__main__" and names is not vars(sys.modules["__main__"]):
        # What was started, but has made another module the main one: a notebook's kernel, an interactive shell.
        return getattr(names.get("__spec__"), "name", None) or "IPython"
    return name


def _file_and_line(level: Level) -> str:
    path = level.position.code.co_filename
    name = encodable(os.path.basename(path))
    installed = "site-packages" in path or "dist-packages" in path
    return f"{level.package}/{name}:{level.line}" if installed else f"{name}:{level.line}"


@lru_cache(maxsize=64)
def _loops(code: CodeType) -> tuple[tuple[int, int], ...]:
    """Return the first and the last instruction of each loop: what a jump back leads over."""
    return tuple(_jumps_back(code))


def _jumps_back(code: CodeType) -> Iterator[tuple[int, int]]:
    for instruction in dis.get_instructions(code):
        if (
            instruction.opcode in (*dis.hasjrel, *dis.hasjabs)
            and instruction.argval < instruction.offset
        ):
            yield instruction.argval, instruction.offset
