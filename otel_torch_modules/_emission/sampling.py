"""The provider's sampler, asked once for each record."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from opentelemetry import trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Tracer
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    DEFAULT_OFF,
    DEFAULT_ON,
    SamplingResult,
)
from opentelemetry.sdk.trace.sampling import Decision as SamplingDecision
from opentelemetry.trace import SpanKind, TraceFlags

from otel_torch_modules import semconv
from otel_torch_modules._texts import encodable_attributes

TAKE_ALL = (ALWAYS_ON, DEFAULT_ON)
"""Samplers that take every span without a parent, whatever its id.

There is no need to ask them, which costs as much as all else that opens a record.
"""

_RANDOM_TRACE_ID: int = getattr(TraceFlags, "RANDOM_TRACE_ID", 0)  # not in early versions

SAMPLED_WITH_RANDOM_ID = TraceFlags.SAMPLED | _RANDOM_TRACE_ID


class Decision(NamedTuple):
    """What the sampler wants recorded, and what all spans of the record carry then."""

    trace_flags: int
    trace_state: Any
    attributes: Mapping[str, Any] = MappingProxyType({})  # on top of their own


def takes_none(tracer: Tracer) -> bool:
    """Return whether the sampler of `tracer` takes no span without a parent."""
    return tracer.sampler in (ALWAYS_OFF, DEFAULT_OFF)


def decide(
    tracer: Tracer, trace_id: int, name: str, phase: str, context: Context
) -> Decision | None:
    """Ask the sampler of `tracer` about a span that is about to start; None leaves it out.

    Args:
        tracer: whose sampler is asked.
        trace_id: the id that the trace has or will have.
        name: of the first span.
        phase: of the first span.
        context: with the parent of the first span as its current span.
    """
    parent = trace.get_current_span(context).get_span_context()
    if not parent.is_valid and tracer.sampler in TAKE_ALL:
        return Decision(TraceFlags.SAMPLED | _random_flag(tracer), None)
    attributes = {semconv.PHASE: phase}
    result = tracer.sampler.should_sample(context, trace_id, name, SpanKind.INTERNAL, attributes)
    if result.decision is SamplingDecision.DROP:
        return None
    random = parent.trace_flags & _RANDOM_TRACE_ID if parent.is_valid else _random_flag(tracer)
    sampled = 0 if result.decision is SamplingDecision.RECORD_ONLY else TraceFlags.SAMPLED
    return Decision(sampled | random, result.trace_state, _added(result, attributes))


def _added(result: SamplingResult, asked: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the sampler says of its decision: those that come with the SDK hand back what they are asked with."""
    added = {
        name: value
        for name, value in (result.attributes or {}).items()
        if name not in asked or asked[name] != value
    }
    return encodable_attributes(BoundedAttributes(attributes=added)) if added else added


def _random_flag(tracer: Tracer) -> int:
    is_random = getattr(tracer.id_generator, "is_trace_id_random", bool)()
    return _RANDOM_TRACE_ID if is_random else 0
