"""The step that is open, and what has happened in it so far."""

from __future__ import annotations

import threading
import weakref
from typing import NamedTuple

from torch import nn

from otel_torch_modules._records import Record


class Root(NamedTuple):
    """A root forward in a step."""

    module: weakref.ref[nn.Module]
    start: int
    place: int  # of its first event in the log
    backwards: int  # how many had ended before it


class OpenStep:
    """One step from its opening to its end.

    Args:
        record: what is recorded of it.
        recorded: whether that is anything.
    """

    __slots__ = (
        "backwards",
        "dropped",
        "ended",
        "raised",
        "record",
        "recorded",
        "released",
        "roots",
        "stepped",
        "thread",
    )

    def __init__(self, record: Record, recorded: bool) -> None:
        self.record = record
        self.thread = threading.get_ident()  # the one that trains
        self.recorded = recorded
        self.roots: list[Root] = []
        self.backwards = 0  # how many have ended
        self.dropped = False  # gradients have been, since the last backward
        self.stepped = False  # an optimizer has, or a scaler kept it from it
        self.raised = False  # an optimizer's step did
        self.ended = False  # the next root forward in training opens another one
        self.released = False  # it has been put where the worker may take it

    @property
    def root(self) -> nn.Module | None:
        """The module whose forward is the first of the step."""
        return self.roots[0].module() if self.roots else None
