"""The frames of the program: those that our code was called from, and how far a call has come."""

from __future__ import annotations

import sys
from types import CodeType, FrameType

OURS = __name__.partition(".")[0] + "."


def program_frame(ours: int = 0) -> FrameType | None:
    """Return the innermost frame that is not ours.

    Args:
        ours: how many calls around the one that asks are known to be: an object is made of each frame looked at.
    """
    frame: FrameType | None = sys._getframe(1 + ours)
    while frame is not None and str(frame.f_globals.get("__name__")).startswith(OURS):
        frame = frame.f_back
    return frame


def is_inside(thread: int, code: CodeType) -> bool:
    """Return whether a call of `code` is open in a thread."""
    frame = sys._current_frames().get(thread)
    while frame is not None and frame.f_code is not code:
        frame = frame.f_back
    return frame is not None


def call_path(thread: int, code: CodeType) -> tuple[tuple[CodeType, int], ...]:
    """Return how far all calls have come that are around the innermost call of `code`, it included."""
    frame = sys._current_frames().get(thread)
    while frame is not None and frame.f_code is not code:
        frame = frame.f_back
    found = []
    while frame is not None:
        found.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return tuple(found)
