"""Marks at the borders of chosen modules in compiled graphs: opt-in, for fusion across a border is lost.

Inductor lets a pass look at each graph before it is made into kernels. Ours is put behind what the program has there,
when a record opens and Dynamo is there: whatever the program has set by then is kept. Whole graphs that are to be
replayed by the device (``reduce-overhead``) are left alone: a mark would run once, while they are captured.
"""

from __future__ import annotations

from collections.abc import Collection
from hashlib import sha256
from pathlib import Path
from time import perf_counter_ns as now
from typing import Any

from otel_torch_modules._events import REGION_BACKWARD, REGION_FORWARD, REGION_RECOMPUTE, WIDTH
from otel_torch_modules._recording.compiled_marks import mark_op
from otel_torch_modules._recording.compiled_marks.borders import (
    OUTSIDE,
    Chosen,
    borders,
    is_backward,
)
from otel_torch_modules._recording.recorder import Recorder
from otel_torch_modules._recording.torch_private.inductor import InductorPasses, inductor_passes
from otel_torch_modules._recording.wrapped import guarded


class CompiledMarks:
    """Puts the marks into what is compiled from now on, and writes down where they are crossed.

    Args:
        globs: which modules; see `Config.compiled_marks`.
        recorder: knows what is recorded in the thread that crosses.
    """

    def __init__(self, globs: Collection[str], recorder: Recorder) -> None:
        self._chosen = Chosen(globs)
        self._identifier = (_digest(), *sorted(globs))
        self._recorder = recorder
        self._passes: InductorPasses | None = None
        # By thread: the module that was entered last, and when.
        self._entered: dict[int, tuple[str, int]] = {}

    def install(self) -> None:
        """Listen to marks."""
        mark_op.listen(self._cross)

    def uninstall(self) -> None:
        """Undo `install` and `record_opens`. What was compiled keeps its marks, and they do nothing."""
        mark_op.listen(None)
        if self._passes is not None:
            self._passes.remove()
        self._passes = None
        self._entered.clear()

    def record_opens(self) -> None:
        """See that the pass is there, if Dynamo is."""
        if self._passes is None:
            put = guarded(self._put_marks, "where marks are put into a graph", self._recorder.fail)
            self._passes = inductor_passes(put, self._identifier)
        if self._passes is not None:
            self._passes.add()

    def _put_marks(self, graph: Any) -> None:
        if self._passes is None or self._passes.replayed:
            return
        backward = is_backward(graph)
        for border in borders(graph, self._chosen):
            mark_op.put_mark(*border, backward)

    def _cross(self, ends: str, begins: str, backward: bool) -> None:
        try:
            time = now()
            log, code, in_backward, in_call = self._recorder.region_log()
            entered = self._entered.pop(code, None)
            if log is None:
                return
            # One that a graph begins with began when that was called: the last thing that happened, if a module was
            # called. Else nobody knows, and it is not shown.
            begun = entered[1] if entered and entered[0] == ends else 0 if in_call else None
            if ends != OUTSIDE and begun is not None:
                start = max(begun, log[3 - WIDTH]) if log else begun
                again = REGION_RECOMPUTE if in_backward else REGION_FORWARD
                event = REGION_BACKWARD if backward else again
                if start < time:
                    log.extend((event, code, start, time, ends))
            if begins != OUTSIDE:
                self._entered[code] = begins, time
        except BaseException:
            if self._recorder.fail("at a border in a compiled region"):
                raise


def _digest() -> str:
    """Return what stands for what is done to a graph: the text of all files here."""
    digest = sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
