"""What another thread is doing now."""

from __future__ import annotations

import sys

from otel_torch_modules._recording.recorder import Recorder

# The module in which a thread waits for others, for a future or at a queue.
_WAITING = "threading"

_ROOT_CALL = Recorder._root_call.__code__


def waits_in_a_module(thread: int) -> bool:
    """Return whether the thread with this identifier waits for another in the middle of a module's call.

    That is how a module runs parts of itself in threads of their own, as `DataParallel` does.
    """
    frame = sys._current_frames().get(thread)
    if frame is None or frame.f_globals.get("__name__") != _WAITING:
        return False
    while frame is not None:
        if frame.f_code is _ROOT_CALL:
            return True
        frame = frame.f_back
    return False
