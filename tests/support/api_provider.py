"""A tracer provider that implements OpenTelemetry's API and has nothing of the SDK, as those of other vendors."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags


class ApiSpan(trace.Span):
    """Keeps what it is told, and takes no more once it has ended."""

    def __init__(
        self, name: str, context: SpanContext, parent: ApiSpan | None, *given: Any, records: bool
    ) -> None:
        self.name = name
        self.parent = parent
        self.kind, self.attributes, self.links, self.start_time = given
        self.end_time: int | None = None
        self.events: list[tuple[str, dict[str, Any], int | None]] = []
        self.status: tuple[StatusCode, str | None] = (StatusCode.UNSET, None)
        self._context = context
        self._records = records

    def get_span_context(self) -> SpanContext:
        return self._context

    def is_recording(self) -> bool:
        return self._records and self.end_time is None

    def end(self, end_time: int | None = None) -> None:
        assert self.end_time is None, f"{self.name} is ended twice"
        self.end_time = end_time or time.time_ns()

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        self.attributes.update(attributes)

    def set_attribute(self, key: str, value: Any) -> None:
        self.attributes[key] = value

    def add_event(
        self, name: str, attributes: Mapping[str, Any] | None = None, timestamp: int | None = None
    ) -> None:
        self.events.append((name, dict(attributes or {}), timestamp))

    def add_link(self, context: SpanContext, attributes: Mapping[str, Any] | None = None) -> None:
        self.links.append(context)

    def update_name(self, name: str) -> None:
        self.name = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        assert isinstance(status, Status)
        self.status = status.status_code, status.description

    def record_exception(self, exception: BaseException, *args: Any, **kwargs: Any) -> None:
        self.add_event("exception", {"exception.message": str(exception)})


class ApiTracer(trace.Tracer):
    """Makes spans with ids of its own: 1, 2, 3 …"""

    def __init__(self, provider: ApiProvider) -> None:
        self._provider = provider

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Any = None,
        links: Sequence[Link] | None = (),
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> ApiSpan:
        provider = self._provider
        around = trace.get_current_span(context)
        parent = around if isinstance(around, ApiSpan) else None
        number = next(provider.numbers)
        trace_id = parent.get_span_context().trace_id if parent else number
        span = ApiSpan(
            name,
            SpanContext(trace_id, number, False, TraceFlags(TraceFlags.SAMPLED)),
            parent,
            kind,
            dict(attributes or {}),
            [link.context for link in links or ()],
            start_time or time.time_ns(),
            records=provider.records,
        )
        provider.foreign_parents += parent is None and around.get_span_context().is_valid
        provider.spans.append(span)
        return span

    @contextmanager
    def start_as_current_span(self, name: str, *args: Any, **kwargs: Any) -> Iterator[ApiSpan]:
        span = self.start_span(name)
        with trace.use_span(span, end_on_exit=True):
            yield span


class ApiProvider(trace.TracerProvider):
    """Keeps all spans, in the order in which they were started.

    Args:
        records: whether its spans record anything.
    """

    def __init__(self, *, records: bool = True) -> None:
        self.records = records
        self.numbers = itertools.count(1)
        self.spans: list[ApiSpan] = []
        self.foreign_parents = 0
        """How many spans were started below one that it has not made."""

    def get_tracer(self, *args: Any, **kwargs: Any) -> ApiTracer:
        return ApiTracer(self)

    def outline(self) -> list[str]:
        """Return the names of all spans, indented by depth, each below its parent."""
        return [line for span in self.spans if span.parent is None for line in self._below(span)]

    def _below(self, span: ApiSpan, depth: int = 0) -> Iterator[str]:
        yield "  " * depth + span.name
        for child in self.spans:
            if child.parent is span:
                yield from self._below(child, depth + 1)
