"""What runs now in a thread: forward calls, backwards, and what these call in turn."""

from __future__ import annotations

from types import FrameType

from otel_torch_modules._recording.torch_private.autograd import engine_call_code, graph_task_id
from otel_torch_modules.tracker.backward import LiveBackward
from otel_torch_modules.tracker.calls import LiveCall
from otel_torch_modules.tracker.frames import KnownFrame


class LiveStack(list["LiveCall | LiveBackward"]):
    """The forward calls and backwards that run in one thread, outermost first."""

    def heal(self, frame: FrameType | None) -> None:
        """Drop what no longer runs, for code that runs in `frame`, so that something may be put on top."""
        while self and not _runs(self[-1], frame):
            self.pop()

    def innermost_call(self) -> LiveCall | None:
        """Return the forward call that runs now."""
        return next((entry for entry in reversed(self) if isinstance(entry, LiveCall)), None)

    def return_to(self, frame: FrameType) -> LiveCall | None:
        """Drop all inside the forward call that `frame` runs; return that call, None if it is not here."""
        for index in reversed(range(len(self))):
            entry = self[index]
            if isinstance(entry, LiveCall) and entry.frame == KnownFrame.of(frame):
                del self[index + 1 :]
                return entry
        return None

    def backward(self, graph_task: int) -> LiveBackward | None:
        """Return the innermost backward if it is that of `graph_task`."""
        entry = next((entry for entry in reversed(self) if isinstance(entry, LiveBackward)), None)
        return entry if entry is not None and entry.graph_task == graph_task else None


def _runs(entry: LiveCall | LiveBackward, frame: FrameType | None) -> bool:
    inside = entry.frame.frames_inside(frame)
    if inside is None or isinstance(entry, LiveCall):
        return inside is not None
    # The next backward may run in a frame like that of one that raised: it must be this one, or inside this one.
    return entry.graph_task == graph_task_id() or any(
        caller.f_code is engine_call_code for caller in inside
    )
