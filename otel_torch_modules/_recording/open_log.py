"""Where what happens in a thread is written to: into the open step, which all threads share, or into its own."""

from __future__ import annotations

from typing import Any, Final

from otel_torch_modules._recording.live_marks import live_marks
from otel_torch_modules._recording.step_stamps import StepStamps
from otel_torch_modules._records import Record

SLOTS_PER_MARK: Final = 5
"""Slots of a log for each mark: a call has two events and marks two nodes, or says so."""


class OpenLog:
    """A log that is written, and what it is of."""

    __slots__ = ("in_full", "log", "marks_end", "phases_only", "record", "stamps")

    def __init__(self) -> None:
        self.record: Record | None = None
        self.log: list[Any] | None = None
        """None where nothing is recorded."""
        self.phases_only = False
        self.in_full = False
        """Whether what happens now may be of a record that has modules: this one, or where there is none, the next."""
        self.stamps: StepStamps | None = None
        """What is put on the device's streams beside it."""
        self.marks_end = 0
        """Length of the log from which on nothing is marked, unless there is room again."""

    def turn_to(self, record: Record | None) -> None:
        """Be the log of `record` from now on, or none where it is None."""
        self.record = record
        self.log = None if record is None else record.log
        self.phases_only = record is not None and record.phases_only
        self.stamps = None if record is None else record.stamps
        self.in_full = record is not None and not record.phases_only
        self.marks_end = 0  # as far as is known: who marks asks

    def leave(self) -> None:
        """Be no log from now on, as its record is another's: the next is expected to be as full."""
        self.record = self.log = self.stamps = None
        self.phases_only = False
        self.marks_end = 0

    def has_room(self) -> bool:
        """Return whether nodes may be marked now, and note until when: see `live_marks`."""
        length = 0 if self.log is None else len(self.log)
        self.marks_end = length + SLOTS_PER_MARK * live_marks.room()
        return length < self.marks_end

    def truncate(self) -> bool:
        """Take note that the record has not all; return True."""
        if self.record is not None:
            self.record.truncated = True
        return True
