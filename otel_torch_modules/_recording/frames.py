"""The frame of the program that our code was called from."""

from __future__ import annotations

import sys
from types import FrameType

_OURS = __name__.partition(".")[0] + "."


def program_frame() -> FrameType | None:
    """Return the innermost frame that is not ours."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and str(frame.f_globals.get("__name__")).startswith(_OURS):
        frame = frame.f_back
    return frame
