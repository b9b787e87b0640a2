"""The first spans of a tree: the step's own, or the evaluation's, and in a job of several ranks the rank's."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from otel_torch_modules import semconv
from otel_torch_modules._events import Varying
from otel_torch_modules._records import OuterParent, Record, Stall
from otel_torch_modules._spans.head import head_of
from otel_torch_modules._spans.span import INTERNAL, SharedAttributes, Span, Trace


def heads(record: Record) -> list[Span]:
    """Return the root of the tree of `record`, and the rank's span below it where several ranks share the step.

    All else that happened in this process hangs below the last of them. Their attributes are for `describe_heads`.
    """
    trace = Trace(
        record.trace_id,
        record.clock_offset,
        record.trace_flags,
        record.trace_state,
        record.parent,
        record.sampler_attributes,
    )
    name, phase = head_of(record)
    if record.site is not None:
        name += record.site.fqn
    root = Span(
        trace, None, name, phase, INTERNAL, record.start, record.end, {semconv.PHASE: phase}
    )
    root.span_id = record.span_id
    root.link = _linked(record.link)
    shared = record.shared
    if shared is None:
        return [root]
    root.span_id = shared.span_id
    root.remote = not shared.sent_here
    name = f"{semconv.RANK_PREFIX}{shared.rank}"
    rank = Span(trace, root, name, semconv.PHASE_RANK, INTERNAL, record.start, record.end, {})
    rank.span_id = record.span_id
    rank.link = root.link
    return [root, rank]


def describe_heads(spans: list[Span], record: Record, truncated: bool) -> None:
    """Give the `heads` of `record` their attributes, unless it is a forward by itself: that has a module's.

    Args:
        spans: the heads.
        record: what they are of.
        truncated: whether module spans are missing.
    """
    if record.site is not None:
        return
    values: dict[Varying, Any] = {STEP_INDEX: record.index, **why_kept(record)}
    rest: dict[str, Any] = {}  # what has no template, for it is rare
    if record.stall is not None:
        rest.update(_of_stall(record.stall))
    elif record.kind == "step":
        values[MICRO_BATCHES] = record.micro_batches
    else:
        values[FORWARDS] = record.forwards
    if record.stride is not None:
        values[STRIDE] = record.stride
    if record.stalled:
        values[STALLED] = round(record.stalled, 1)
    if record.dropped_before:
        values[DROPPED] = record.dropped_before
    for span in spans:
        known = _attributes(span.phase, record.skipped, record.optimizer_compiled, truncated)
        # A name that is one step's is not worth a template.
        alone = rest or (span.phase is semconv.PHASE_STEP and "{" in record.step_name)
        span.attributes = {**known, **rest} if alone else known
        span.keys, span.values = (*values,), (*values.values(),)
    if record.shared is not None:
        spans[-1].say((RANK,), (record.shared.rank,))
    spans[-1].say((*record.measured,), (*record.measured.values(),))


STEP_INDEX: Final = Varying(semconv.STEP_INDEX, int)
MICRO_BATCHES: Final = Varying(semconv.STEP_MICRO_BATCHES, int)
FORWARDS: Final = Varying(semconv.EVALUATION_FORWARDS, int)
STRIDE: Final = Varying(semconv.STEP_STRIDE, int)
KEPT: Final = Varying(semconv.STEP_KEPT, str)
SLOWDOWN: Final = Varying(semconv.STEP_SLOWDOWN, float)
STALLED: Final = Varying(semconv.STEP_STALLED, float)
DROPPED: Final = Varying(semconv.STEP_DROPPED, int)
RANK: Final = Varying(semconv.DISTRIBUTED_RANK, int)


@lru_cache
def _attributes(phase: str, skipped: bool, compiled: bool, truncated: bool) -> SharedAttributes:
    attributes: dict[str, Any] = {semconv.PHASE: phase}
    if compiled:
        attributes[semconv.OPTIMIZER_COMPILED] = True
    if skipped:
        attributes[semconv.STEP_SKIPPED] = True
    if truncated:
        attributes[semconv.STEP_TRUNCATED] = True
    return SharedAttributes(attributes)


def _linked(other: OuterParent | None) -> Span | None:
    """Return a span of another trace, here only to be pointed at."""
    if other is None:
        return None
    trace = Trace(other.trace_id, 0, other.trace_flags, other.trace_state, None)
    span = Span(trace, None, "", "", INTERNAL, 0, 0, {})
    span.span_id = other.span_id
    return span


def why_kept(record: Record) -> dict[Varying, Any]:
    """Return what is said of a record that was asked for, or kept with its modules where most are not."""
    if record.requested:
        return {KEPT: semconv.KEPT_REQUESTED}
    if record.kept is None:
        return {}
    reason, slowdown = record.kept
    return {KEPT: reason} if slowdown is None else {KEPT: reason, SLOWDOWN: round(slowdown, 3)}


def _of_stall(stall: Stall) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        semconv.STALL_DURATION: round(stall.seconds, 1),
        semconv.STALL_REASON: stall.reason,
        semconv.STALL_FRAMES: stall.frames,
        semconv.UNFINISHED: True,
    }
    if stall.collectives:
        attributes[semconv.STALL_COLLECTIVES] = stall.collectives
    if stall.stacktrace:
        attributes[semconv.CODE_STACKTRACE] = stall.stacktrace
    return attributes
