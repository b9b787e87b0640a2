"""What lies between two steps is a record of its own, linked with the step before it."""

from __future__ import annotations

from otel_torch_modules._recording.admission import Admission
from otel_torch_modules._recording.loop.open_step import OpenStep
from otel_torch_modules._records import OuterParent, Record


class Apart:
    """Sends off such records.

    Args:
        admission: whether they are recorded, and where they go.
    """

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._before: OuterParent | None = None  # the step's span, where somebody has asked for it

    def step_opens(self) -> None:
        """Another step comes before what follows."""
        self._before = None

    def follow(self, step: OpenStep | None) -> OuterParent | None:
        """Return the span of the step before, which is `step`, or where that is None the one that was named last.

        None where there was none, or it is not recorded.
        """
        if step is not None:
            self._before = self._span_of(step) if step.recorded else None
        return self._before

    def send(self, record: Record) -> None:
        """Send off what lies between two steps."""
        if self._admission.open_apart(record):
            self._admission.close_apart(record)

    def _span_of(self, step: OpenStep) -> OuterParent:
        record = step.record
        self._admission.context.settle(record)
        return OuterParent(record.trace_id, record.span_id, record.trace_flags, record.trace_state)
