"""The program's current span while a record is open: one proxy for the whole record.

It looks for the innermost open call when somebody asks it, so calls that nobody asks about cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags

from otel_torch_modules import semconv
from otel_torch_modules._records import Record
from otel_torch_modules._step_context import OpenSpan
from otel_torch_modules._texts import (
    describe_error,
    encodable,
    encodable_attributes,
    encodable_value,
)


class OpenStepSpan(trace.Span):
    """The innermost open span of a record.

    Once the record is closed it is transparent: whoever still has it current, or puts a context with it
    back, sees the span that was current before it.
    """

    def __init__(
        self,
        record: Record,
        open_span: OpenSpan,
        settle: Callable[[Record], None],
        before: trace.Span,
        outer: context_api.Context,
    ) -> None:
        self.record: Record | None = record
        """What it is the span of; None once that is closed."""
        self._open_span = open_span
        self._settle = settle
        self.before = before
        self.outer = outer  # the whole context that `before` was current in

    def get_span_context(self) -> SpanContext:
        record = self.record
        if record is None:
            return self.before.get_span_context()
        try:
            self._settle(record)
            return SpanContext(
                record.trace_id,
                self._open_span.span_id(record),
                False,
                TraceFlags(record.trace_flags),
                record.trace_state,
            )
        except BaseException:
            if self._open_span.fail("where the program asks for its span"):
                raise
            return self.before.get_span_context()

    def is_recording(self) -> bool:
        return self.before.is_recording() if self.record is None else True

    def end(self, end_time: int | None = None) -> None:
        """Do nothing: the record ends when the step does."""

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        self._note("set_attributes", lambda: (_cleaned(attributes),))

    def set_attribute(self, key: str, value: Any) -> None:
        self._note("set_attributes", lambda: (_cleaned({key: value}),))

    def add_event(
        self, name: str, attributes: Mapping[str, Any] | None = None, timestamp: int | None = None
    ) -> None:
        self._note("add_event", lambda: (encodable_value(name), _cleaned(attributes), timestamp))

    def add_link(self, context: SpanContext, attributes: Mapping[str, Any] | None = None) -> None:
        self._note("add_link", lambda: (context, _cleaned(attributes)))

    def update_name(self, name: str) -> None:
        self._note("update_name", lambda: (encodable_value(name),))

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        if isinstance(status, Status) and status.description:
            status = Status(status.status_code, encodable(status.description))
        self._note("set_status", lambda: (status, encodable_value(description)))

    def record_exception(
        self,
        exception: BaseException,
        attributes: Mapping[str, Any] | None = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        # As text, now: the exception's frames would keep the program's tensors alive.
        module, name = type(exception).__module__, type(exception).__qualname__
        raised = describe_error(exception, with_stacktrace=True)
        described: dict[str, Any] = {
            semconv.EXCEPTION_TYPE: name if module == "builtins" else f"{module}.{name}",
            semconv.EXCEPTION_MESSAGE: raised.message,
            semconv.EXCEPTION_STACKTRACE: raised.stacktrace,
            **({semconv.EXCEPTION_TRUNCATED: True} if raised.truncated else {}),
            **(attributes or {}),
        }
        self.add_event(semconv.EXCEPTION_EVENT, described, timestamp)

    def _note(self, method: str, arguments: Callable[[], tuple[Any, ...]]) -> None:
        record = self.record
        if record is None:
            getattr(self.before, method)(*arguments())
            return
        try:
            self._open_span.note(record, method, arguments())
        except BaseException:
            if self._open_span.fail("where the program speaks of its span"):
                raise


def _cleaned(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return plain values, as the SDK would keep them: a note must not hold on to what the program goes on using."""
    return encodable_attributes(BoundedAttributes(attributes=attributes))
