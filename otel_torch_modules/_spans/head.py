"""What the first span of a record is called, known before there is a tree."""

from __future__ import annotations

from otel_torch_modules import semconv
from otel_torch_modules._records import Record


def head_of(record: Record) -> tuple[str, str]:
    """Return the name and the phase of the root; of a forward by itself, what its name begins with."""
    if record.kind == "step":
        return record.step_name.replace("{step}", str(record.index)), semconv.PHASE_STEP
    if record.kind == "stall":
        return semconv.STALL, semconv.PHASE_STALL
    if record.kind == "checkpoint":
        return f"{semconv.CHECKPOINT_PREFIX}{record.log[-1].said}", semconv.PHASE_CHECKPOINT
    if record.site is None:
        return semconv.EVALUATION, semconv.PHASE_EVALUATE
    return semconv.FORWARD_PREFIX, semconv.PHASE_FORWARD
