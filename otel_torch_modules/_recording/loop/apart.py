"""What lies between two steps is a record of its own, linked with the step before it."""

from __future__ import annotations

from otel_torch_modules._recording.admission import Admission
from otel_torch_modules._records import OuterParent, Record


class Apart:
    """Sends off such records.

    Args:
        admission: whether they are recorded, and where they go.
    """

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.before: Record | None = None
        """The step before, until another one opens; None where that is not recorded."""

    def send(self, record: Record) -> None:
        """Send off what lies between two steps."""
        before = self.before
        if before is not None:
            self._admission.context.settle(before)
            record.link = OuterParent(
                before.trace_id, before.span_id, before.trace_flags, before.trace_state
            )
        self._admission.send_apart(record)
