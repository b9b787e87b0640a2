"""The span limits of a provider, obeyed by spans that are over when they are made.

The SDK enforces ``OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT`` and its like in spans that it starts, which most of ours never are:
https://opentelemetry.io/docs/specs/otel/trace/sdk/#span-limits. As it does, the oldest go first and are counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import Event, SpanLimits, Tracer
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import Link

from otel_torch_modules._emission import sdk
from otel_torch_modules._spans.span import SharedAttributes
from otel_torch_modules._weak_table import WeakTable

_MOST_ATTRIBUTES = 32  # of a span of ours; the SDK's default limit is 128
_MOST_KNOWN = 10_000


class Limits:
    """What `limits` leave of a span.

    Args:
        limits: of the tracer whose spans they are.
    """

    def __init__(self, limits: SpanLimits) -> None:
        self._limits = copy(limits)  # these are a key of the table that this stands in
        most, length = limits.max_span_attributes, limits.max_span_attribute_length
        self.leave_attributes = most is None or most >= _MOST_ATTRIBUTES
        """Whether no span of ours can have too many attributes."""
        self.bind_attributes = length is not None or not self.leave_attributes
        """Whether attributes of ours can be too many or too long."""
        self.leave_links = limits.max_links != 0
        """Whether a span may have a link."""
        # By address, with what lies there.
        self._known: dict[int, tuple[SharedAttributes, BoundedAttributes]] = {}

    @classmethod
    def of(cls, tracer: Tracer) -> Limits:
        """Return those of `tracer`, made once."""
        limits = sdk.span_limits(tracer)
        known = _of_sdk.get(limits)
        if known is None:
            known = cls(limits)
            _of_sdk.put(limits, known)
        return known

    def attributes(self, attributes: Mapping[str, Any]) -> BoundedAttributes:
        """Return what is left of a span's `attributes`."""
        if type(attributes) is not SharedAttributes:
            return self._bounded(attributes)
        known = self._known.get(id(attributes))
        if known is None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            known = self._known[id(attributes)] = attributes, self._bounded(attributes)
        return known[1]

    def cut(self, value: Any) -> Any:
        """Return what is left of the value of a span's attribute."""
        return _cut(value, self._limits.max_span_attribute_length)

    def _bounded(self, attributes: Mapping[str, Any]) -> BoundedAttributes:
        limits = self._limits
        return _bounded(attributes, limits.max_span_attributes, limits.max_span_attribute_length)

    def events(self, events: Sequence[Event]) -> Sequence[Event]:
        """Return what is left of a span's `events`."""
        limits = self._limits
        most, length = limits.max_event_attributes, limits.max_attribute_length
        left = [
            Event(event.name, _bounded(event.attributes or {}, most, length), event.timestamp)
            for event in events
        ]
        return BoundedList.from_seq(limits.max_events, left)

    def links(self, links: Sequence[Link]) -> Sequence[Link]:
        """Return what is left of a span's `links`, which have no attributes."""
        most = self._limits.max_links
        fit = most is None or len(links) <= most
        return links if fit else BoundedList.from_seq(most, links)


_of_sdk = WeakTable[SpanLimits, Limits]()


def _bounded(
    attributes: Mapping[str, Any], most: int | None, length: int | None
) -> BoundedAttributes:
    # Not by the limits of `BoundedAttributes`, which logs a line for each attribute that it drops or cuts.
    dropped = 0 if most is None else max(0, len(attributes) - most)
    left = list(attributes.items())[dropped:]
    bounded = BoundedAttributes(attributes={key: _cut(value, length) for key, value in left})
    bounded.dropped = dropped
    return bounded


def _cut(value: Any, length: int | None) -> Any:
    if isinstance(value, str):
        return value[:length]
    if isinstance(value, (list, tuple)):
        return tuple([_cut(item, length) for item in value])
    return value
