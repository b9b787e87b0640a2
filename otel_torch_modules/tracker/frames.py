"""Frames of Python as evidence that something still runs.

Nothing tells a hook of torch that a call was left by ``KeyboardInterrupt``, or that a backward raised. But both run
below a frame of Python, and that frame is gone then. A frame is known again without being held, for it would keep
tensors alive: by its ``id`` and its code. Another frame may get the ``id`` of one that is gone, but one of the same
code runs another call or backward, and that has been seen by then.
"""

from __future__ import annotations

import sys
from types import CodeType, FrameType
from typing import NamedTuple


class KnownFrame(NamedTuple):
    """A frame, as it is known again."""

    id: int
    code: CodeType | None

    @classmethod
    def of(cls, frame: FrameType | None) -> KnownFrame:
        """Return `frame` as it is known again; None is below all frames, as in threads that Python did not start."""
        return cls(0, None) if frame is None else cls(id(frame), frame.f_code)

    def frames_inside(self, frame: FrameType | None) -> list[FrameType] | None:
        """Return `frame` and its callers as far as this one, or None where this one is not among them."""
        inside: list[FrameType] = []
        while frame is not None:
            if id(frame) == self.id and frame.f_code is self.code:
                return inside
            inside.append(frame)
            frame = frame.f_back
        return inside if self.code is None else None


def calling_frame() -> FrameType:
    """Return the frame of ``Module._call_impl`` that called the hook that calls this."""
    frame = sys._getframe(2)
    # Most hooks run in a function inside it; after an exception it calls them itself.
    within = frame.f_back if frame.f_code.co_name == "inner" else None
    return frame if within is None else within
