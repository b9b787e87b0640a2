"""Every name of the SDK that is not public, in one place; those of its OTLP exporters are in the subclasses of these.

Checked with opentelemetry-sdk 1.30.0 and 1.45.2. Where a later version renames one of them:

- `span_processors`: a provider then counts as one processor that wants real spans, which always works.
- `are_shut_down`: steps after the program has shut its provider down count as sent.
- `started_span`: spans with events or attributes of the program, and processors with an `on_start`, need it;
  an error is logged and those records are lost.
- `configure_from_file`: only used where the program has no provider; an error is logged, and the file is ignored.
- `span_limits`: limits that the program gave its provider are not obeyed, those of the environment are.
- `stand_in`: spans that a program makes without a provider of its own are not sent.
- `current_context`, `make_current`: two calls more at each boundary of a step.
- `uninstrumented`: every traced HTTP client makes spans of our own exports.
- `AsksNoDetectorInChild`: a forked child asks all detectors again, and waits for one that does not come back.
- `update_resource`: a forked child keeps its parent's process id in the resource.
- `is_no_meter_provider`, `meter_provider_is_set`, `preferences`: there are no metrics of training; an error is logged.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, cast

from opentelemetry import context as context_api
from opentelemetry import metrics, trace
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext
from opentelemetry.metrics import _internal as metrics_internal
from opentelemetry.sdk.environment_variables import OTEL_EXPERIMENTAL_RESOURCE_DETECTORS
from opentelemetry.sdk.metrics.export import MetricExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import (
    SpanLimits,
    SpanProcessor,
    Tracer,
    TracerProvider,
    _Span,
)
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind

from otel_torch_modules._emission.tracers import tracer_of
from otel_torch_modules._heard_already import heard_already

with heard_already():  # it looks for detectors; and later, at a program's end, it could not
    from opentelemetry.sdk import _configuration

_QUIET = (SpanProcessor, BatchSpanProcessor, SimpleSpanProcessor)


def span_processors(active: SpanProcessor) -> tuple[SpanProcessor, ...]:
    """Return the processors behind a provider's active one, flattened."""
    inner = getattr(active, "_span_processors", None)
    if inner is None:
        return (active,)
    return tuple([found for processor in inner for found in span_processors(processor)])


def needs_started_spans(processors: Sequence[SpanProcessor]) -> bool:
    """Return whether one of `processors` does something before a span has ended."""
    return not all(
        _is_quiet(processor, "on_start") and _is_quiet(processor, "_on_ending")
        for processor in processors
    )


def _is_quiet(processor: SpanProcessor, method: str) -> bool:
    function = getattr(getattr(processor, method, None), "__func__", None)
    return any(function is getattr(quiet, method, None) for quiet in _QUIET)


def are_shut_down(processors: Sequence[SpanProcessor]) -> bool:
    """Return whether all of `processors` say that they are shut down: early versions' simple ones do not."""
    return all(map(_is_shut_down, processors))


def _is_shut_down(processor: SpanProcessor) -> bool:
    inner = getattr(processor, "_batch_processor", processor)
    return getattr(inner, "_shutdown", getattr(inner, "done", False)) is True


def is_enabled(tracer: Tracer) -> bool:
    """Return False where the SDK's (experimental) tracer configurator switches this scope off."""
    asked = getattr(tracer, "_is_enabled", None)
    return asked is None or bool(asked())


def started_span(
    tracer: Tracer,
    scope: InstrumentationScope,
    *,
    name: str,
    kind: SpanKind,
    resource: Resource,
    context: SpanContext,
    parent: SpanContext | None,
    attributes: Mapping[str, Any],
    links: Sequence[Link],
    processor: SpanProcessor,
) -> _Span:
    """Return a real span of the SDK with the ids of `context`, not yet started, which `processor` is told of."""
    return _Span(
        name=name,
        context=context,
        parent=parent,
        sampler=tracer.sampler,
        resource=resource,
        attributes=attributes,
        links=links,
        kind=kind,
        span_processor=processor,
        limits=span_limits(tracer),
        instrumentation_scope=scope,
    )


def span_limits(tracer: Tracer) -> SpanLimits:
    """Return the limits that spans of `tracer` obey."""
    return getattr(tracer, "_span_limits", None) or SpanLimits()


_STAND_IN: Final = "_otel_torch_modules"


def stand_in(provider: TracerProvider) -> Callable[[], None]:
    """Serve the tracers that the program gets while it has no provider; return what undoes it.

    They look for a provider at each span, and where the program sets one they are its own from then on.
    """
    proxy_class: Any = trace.ProxyTracer
    own = vars(proxy_class).get("_tracer")
    if not isinstance(own, property):
        return lambda: None

    def tracer(proxy: Any) -> trace.Tracer:
        if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            found: trace.Tracer = own.__get__(proxy)
            return found
        made_by, known = vars(proxy).get(_STAND_IN, (None, None))
        if made_by is not provider:
            known = tracer_of(
                provider,
                proxy._instrumenting_module_name,
                proxy._instrumenting_library_version,
                proxy._schema_url,
                getattr(proxy, "_attributes", None),
            )
            vars(proxy)[_STAND_IN] = provider, known
        return cast(trace.Tracer, known)

    served = proxy_class._tracer = property(tracer)

    def stand_down() -> None:
        if vars(proxy_class).get("_tracer") is served:
            proxy_class._tracer = own

    return stand_down


_RUNTIME_CONTEXT: Final = getattr(context_api, "_RUNTIME_CONTEXT", None)
_VARIABLE: Final = (
    getattr(_RUNTIME_CONTEXT, "_current_context", None)
    if type(_RUNTIME_CONTEXT) is ContextVarsRuntimeContext  # and none of the program's choice
    else None
)

current_context: Final[Callable[[], context_api.Context]] = getattr(
    _VARIABLE, "get", context_api.get_current
)
"""As of the API, which makes two calls around it."""

make_current: Final[Callable[[context_api.Context], object]] = getattr(
    _VARIABLE, "set", context_api.attach
)
"""The same."""


api: Final[Any] = trace
"""Its ``_TRACER_PROVIDER`` is the process's global tracer provider, None while there is none.

To have one returned takes a look into the environment each time, which raises and catches two errors where there is
none: ten times as long.
"""
api._TRACER_PROVIDER  # noqa: B018 - it is there


def meter_provider_is_set() -> bool:
    """Return whether the process has a global meter provider."""
    return metrics_internal._METER_PROVIDER is not None


def preferences(exporter: MetricExporter) -> Mapping[str, Any]:
    """Return how `exporter` wants its metrics, as arguments of a reader."""
    return {
        "preferred_temporality": exporter._preferred_temporality,
        "preferred_aggregation": exporter._preferred_aggregation,
    }


def is_no_meter_provider(provider: metrics.MeterProvider) -> bool:
    """Return whether `provider` only stands for one that the program may set."""
    return isinstance(provider, metrics_internal._ProxyMeterProvider)


@contextmanager
def uninstrumented() -> Iterator[None]:
    """Keep instrumented clients from making spans of what they send for us, as the SDK's processors do."""
    key = getattr(context_api, "_SUPPRESS_INSTRUMENTATION_KEY", "suppress_instrumentation")
    token = context_api.attach(context_api.set_value(key, True))
    try:
        yield
    finally:
        context_api.detach(token)


class _Configurator(_configuration._OTelSDKConfigurator):
    """The SDK asks those who configure it to subclass its configurator."""


def configure_from_file() -> None:
    """Let the SDK set up everything that ``OTEL_CONFIG_FILE`` describes."""
    _Configurator().configure()  # type: ignore[no-untyped-call]


def replace_span_processors(provider: TracerProvider, processors: Sequence[SpanProcessor]) -> None:
    """Give `provider` these processors in place of those it has."""
    provider._active_span_processor._span_processors = tuple(processors)


class AsksNoDetectorInChild:
    """A provider whose forked child asks no detector of others' once more: the parent's may not have come back yet.

    Such a child, a worker of a data loader, would wait for ever for the module that the parent's thread imports.
    """

    def _handle_fork(self) -> None:
        named = os.environ.pop(OTEL_EXPERIMENTAL_RESOURCE_DETECTORS, None)
        try:
            super()._handle_fork()  # type: ignore[misc]
        finally:
            if named is not None:
                os.environ[OTEL_EXPERIMENTAL_RESOURCE_DETECTORS] = named


def update_resource(provider: TracerProvider, resource: Resource) -> None:
    """Merge `resource` into that of `provider` and of its tracers."""
    update = getattr(provider, "_update_resource", None)
    if update is not None:
        update(resource)
    else:  # early versions: tracers ask the provider anew
        provider._resource = provider.resource.merge(resource)
