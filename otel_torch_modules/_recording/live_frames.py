"""What runs now in a thread, seen from its Python frames.

Nothing tells a hook of torch that a call was left by ``KeyboardInterrupt``, or that a backward raised. But each ran
below a frame of Python, and that frame is gone. Frames are told apart by ``id``, without holding them: they would keep
tensors alive. That is exact for what was begun deeper than the frame that asks, as no two living frames share an id.
"""

from __future__ import annotations

import sys
from types import FrameType

import torch

from otel_torch_modules._recording.live_backward import Backward
from otel_torch_modules._recording.live_calls import Call
from otel_torch_modules._recording.torch_private import graph_task_id

_RUNS_BACKWARD = torch.autograd.graph._engine_run_backward.__code__


class Stack(list["Call | Backward"]):
    """The forward calls and backwards that run in one thread, outermost first."""

    def heal(self, frame: FrameType | None) -> None:
        """Drop what no longer runs, for code that runs in `frame`."""
        while self and not _runs(self[-1], frame):
            self.pop()

    def innermost_call(self) -> Call | None:
        """Return the forward call that runs now."""
        return next((entry for entry in reversed(self) if isinstance(entry, Call)), None)

    def return_to(self, frame: FrameType) -> Call | None:
        """Drop all inside the forward call that `frame` runs; return that call, None if it is not here."""
        for index in reversed(range(len(self))):
            entry = self[index]
            if isinstance(entry, Call) and entry.frame == id(frame):
                del self[index + 1 :]
                return entry
        return None

    def backward(self, graph_task: int) -> Backward | None:
        """Return the innermost backward if it is that of `graph_task`."""
        entry = next((entry for entry in reversed(self) if isinstance(entry, Backward)), None)
        return entry if entry is not None and entry.graph_task == graph_task else None


def _runs(entry: Call | Backward, frame: FrameType | None) -> bool:
    inside_another_backward = False
    while frame is not None and id(frame) != entry.frame:
        inside_another_backward |= frame.f_code is _RUNS_BACKWARD
        frame = frame.f_back
    if isinstance(entry, Call):
        return frame is not None
    # A frame may have the id of one that is gone, so the graph task has a say: it is this one, or one around it.
    found = frame is not None or entry.frame == 0
    return found and (inside_another_backward or entry.graph_task == graph_task_id())


def calling_frame() -> FrameType:
    """Return the frame of ``Module._call_impl`` that called the hook that calls this."""
    frame = sys._getframe(2)
    if frame.f_code.co_name == "inner" and frame.f_back is not None:
        return (
            frame.f_back
        )  # hooks run in a function inside it, but for those that run after an exception
    return frame
