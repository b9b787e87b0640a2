"""What the process that started this job says in the environment: a span to link to, and baggage.

The specification for environment variables as carriers:
https://opentelemetry.io/docs/specs/otel/context/env-carriers/. A step is no child of that span: it may be one of a
million, and a trace is best looked at by itself.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from contextvars import Token

from opentelemetry import baggage, trace
from opentelemetry import context as context_api
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import Getter, TextMapPropagator
from opentelemetry.trace import SpanContext
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otel_torch_modules._heard_already import heard_already
from otel_torch_modules._interruption import is_interruption, suppressed
from otel_torch_modules._log import report
from otel_torch_modules._spans.span import Note, Span

_LOGGER = logging.getLogger("otel_torch_modules")

_VARIABLES = ("TRACEPARENT", "TRACESTATE", "BAGGAGE")


class _EnvironmentGetter(Getter[Mapping[str, str]]):
    """Reads ``TRACEPARENT`` where a propagator asks for ``traceparent``."""

    def get(self, carrier: Mapping[str, str], key: str) -> list[str] | None:
        value = carrier.get(re.sub(r"[^A-Z0-9_]", "_", key.upper()))
        return None if value is None else [value]

    def keys(self, carrier: Mapping[str, str]) -> list[str]:
        return list(carrier)


class JobContext:
    """The context that `environ` carries.

    Args:
        environ: the process's environment.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        extracted = _extract(environ) if any(map(environ.get, _VARIABLES)) else Context()
        self._starter: SpanContext = trace.get_current_span(extracted).get_span_context()
        self._baggage = baggage.get_all(extracted)
        self._attached: tuple[Context, Token[Context]] | None = None

    def attach(self) -> None:
        """Put the baggage into this thread's context, below what the program puts there."""
        if self._baggage:
            context = context_api.get_current()
            for name, value in self._baggage.items():
                context = baggage.set_baggage(name, value, context)
            self._attached = context, context_api.attach(context)

    def detach(self) -> None:
        """Undo `attach` unless the program has put another context there since."""
        attached, self._attached = self._attached, None
        if attached is not None and context_api.get_current() is attached[0]:
            context_api.detach(attached[1])

    def link(self, heads: Iterable[Span]) -> None:
        """Link `heads` to the span that started the job, if there is one: another rank may send the first of them."""
        if self._starter.is_valid:
            for head in heads:
                note = Note("add_link", (self._starter,), head.start)
                head.notes = [note, *(head.notes or ())]


def _extract(environ: Mapping[str, str]) -> Context:
    try:
        return _propagator().extract(environ, Context(), _EnvironmentGetter())
    except BaseException as error:
        if is_interruption(error):
            raise
        report(
            _LOGGER,
            "The context in the environment cannot be read: steps are not linked",
            error=error,
        )
        return Context()


def _propagator() -> TextMapPropagator:
    # Importing it makes what OTEL_PROPAGATORS names, and raises where one cannot be made; that is said already.
    with suppressed(BaseException), heard_already():
        from opentelemetry import propagate

        return propagate.get_global_textmap()
    return CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])
