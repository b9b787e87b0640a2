"""The tracer provider that spans go to: the program's own, or one of ours where it has none.

It is looked for when the first record opens, neither at import (a program sets its provider up later than
that) nor at exit (a provider cannot be made there: its detectors and processors start threads).

A provider of ours is what the SDK's configurator would make of the ``OTEL_*`` variables, for traces only:
metrics and logs of the program are not ours to set up. With ``OTEL_CONFIG_FILE`` the SDK does it all.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from inspect import signature

from opentelemetry import trace
from opentelemetry.environment_variables import OTEL_PYTHON_TRACER_PROVIDER
from opentelemetry.sdk.environment_variables import OTEL_BSP_SCHEDULE_DELAY, OTEL_SDK_DISABLED
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter

from otel_torch_modules._emission import sdk
from otel_torch_modules._emission.ids import UrandomIdGenerator
from otel_torch_modules._emission.otlp.request_exporter import RequestExporter
from otel_torch_modules._emission.services import ONE, Services
from otel_torch_modules._emission.tracers import tracer_of
from otel_torch_modules._engine import fork
from otel_torch_modules._interruption import is_interruption
from otel_torch_modules._job.resource import build_resource, service_name
from otel_torch_modules._job.resource_detector import process_resource
from otel_torch_modules._log import report
from otel_torch_modules._own_thread import OwnThread
from otel_torch_modules.semconv import SCOPE_NAME

_LOGGER = logging.getLogger(__name__)

_SCHEDULE_DELAY_MS = (
    1_000  # the SDK's default of 5 000 would lose five seconds of steps to a SIGKILL
)
# Names of providers that cannot be loaded: the API tries, and complains, each time that it is asked for one.
_not_loaded: set[str] = set()
_OTEL_CONFIG_FILE = "OTEL_CONFIG_FILE"  # a constant of the SDK only in later versions


class LazyTracerProvider:
    """A tracer provider that is found, or made, when it is first needed.

    Args:
        given: the provider to use, if the program handed one in.
        on_found: called once a process, in whatever thread it happens, when the provider is known and needed.
        services: say which service spans are of, where the provider is ours.
    """

    def __init__(
        self,
        given: trace.TracerProvider | None = None,
        *,
        on_found: Callable[[], None],
        services: Services = ONE,
    ) -> None:
        self._services = services
        self._given = None if given is None else _unwrapped(given)
        self._provider: trace.TracerProvider | None = None
        self._tracer_of: trace.TracerProvider | None = None
        self._tracer: trace.Tracer | None = None
        self._service_name: str | None = None
        self._on_found = on_found
        self._ours: OwnTracerProvider | None = None
        self._stand_down: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        self._preparation: threading.Thread | None = None
        fork.watch(self)

    def after_fork_in_child(self) -> None:
        """Look anew; a provider of ours gets connections of its own at the next `resolve`."""
        self._lock = threading.Lock()
        self._preparation = None
        self._provider = self._tracer_of = self._tracer = None
        if self._ours is not None:
            self._ours.forget_exporters()

    def peek(self) -> trace.TracerProvider | None:
        """Return the provider if there is one already. Cheap: for the training thread."""
        provider = self._provider
        if provider is None or (provider is self._ours and sdk.provider_is_set()):
            theirs = self._given or _program_provider()
            if theirs is not None:  # also where the program has set it after its first step
                self._settle(theirs)
                return theirs
        return provider

    def peek_tracer(self) -> trace.Tracer | None:
        """Return the tracer of ours of `peek`'s provider: the same as long as the provider is."""
        provider = self.peek()
        if provider is not self._tracer_of:
            self._tracer_of = provider
            self._tracer = None if provider is None else tracer_of(provider, SCOPE_NAME)
        return self._tracer

    def prepare(self) -> None:
        """Begin to find or make the provider, in a thread of its own.

        The thread is no daemon: a program whose first step is its last waits for it, and makes its provider in time.
        """
        # Without the lock: `resolve` may hold it long, and this is the training thread.
        if self._preparation is None and self._provider is None:
            self._service_name = service_name()  # the main module forgets its file at its end
            thread = OwnThread(target=self.resolve, name="otel-torch-modules-provider")
            thread.start()
            self._preparation = thread

    def wait(self, timeout_s: float) -> None:
        """Wait for what `prepare` began."""
        if self._preparation is not None:
            self._preparation.join(timeout_s)

    def resolve(self) -> trace.TracerProvider:
        """Return the provider, made now if need be. May take a second: never call it in the training thread."""
        with self._lock:
            if self._provider is None:
                with fork.held_off:
                    self._settle(self._given or _program_provider() or self._open_ours())
            assert self._provider is not None
            return self._provider

    def _open_ours(self) -> trace.TracerProvider:
        try:
            if self._ours is None:
                return _build(self._service_name or service_name(), self._services)
            self._ours.open()  # in a forked child
        except Exception as error:
            if is_interruption(error):
                raise
            report(_LOGGER, "No exporter could be set up: no spans are sent", error=error)
            return trace.NoOpTracerProvider()
        return self._ours

    def _settle(self, provider: trace.TracerProvider) -> None:
        if isinstance(provider, OwnTracerProvider) and self._ours is None:
            self._ours = provider
            self._stand_down = sdk.stand_in(provider)
        self._provider = provider
        self._on_found()

    def close(self) -> None:
        """Export what is there; end the threads of a provider of ours. May take long."""
        fork.unwatch(self)
        self._stand_down()
        if self._ours is not None:
            self._ours.shutdown()

    @property
    def is_ours(self) -> bool:
        """Whether the provider is one of ours, which ends when we say so."""
        return self._ours is not None and self._provider is self._ours

    @property
    def exporters(self) -> tuple[RequestExporter, ...]:
        """What sends the encoded spans."""
        ours = self._ours
        return () if ours is None else ours.request_exporters(ours.processors)

    def abort(self) -> None:
        """Make a `close` that waits for a server return soon, at the price of what was not sent yet."""
        if self._ours is not None:
            self._ours.abort()


class OwnTracerProvider(TracerProvider):
    """A provider that we made because the program had none.

    It is not the process's global provider, which can be set only once: that place is the program's, who may come to it
    late. Until then the tracers that the program got without a provider are served by this one.

    Args:
        service: its name where the user gave it none.
        services: say which service spans are of.
    """

    def __init__(self, service: str, services: Services = ONE) -> None:
        self.services = services
        super().__init__(
            sampler=sdk.sampler(),
            resource=services.of_process(build_resource(service)),
            shutdown_on_exit=False,  # the SDK's takes 30 s where no server answers
            id_generator=sdk.id_generator() or UrandomIdGenerator(),
        )
        self._exporters: list[SpanExporter] = []
        self.processors: tuple[SpanProcessor, ...] = ()
        self._request_exporters: tuple[RequestExporter, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether spans go anywhere."""
        return bool(self._exporters)

    def open(self) -> None:
        """Make the exporters that the environment names, in place of any former ones."""
        self._exporters = sdk.trace_exporters()
        self.processors = tuple([_processor(exporter) for exporter in self._exporters])
        sdk.replace_span_processors(self, self.processors)
        self._request_exporters = tuple(
            [exporter for exporter in self._exporters if isinstance(exporter, RequestExporter)]
        )

    def request_exporters(
        self, processors: tuple[SpanProcessor, ...]
    ) -> tuple[RequestExporter, ...]:
        """Return the exporters if all that `processors` do is to hand them spans, and they take encoded ones as well.

        Empty where the program has added a processor, or has exporters of another kind.
        """
        if processors != self.processors or len(self._request_exporters) != len(processors):
            return ()
        return self._request_exporters

    def forget_exporters(self) -> None:
        """Be closed in a forked child: the connections are the parent's."""
        self._exporters = []
        self.processors = self._request_exporters = ()
        sdk.replace_span_processors(self, ())
        sdk.update_resource(self, process_resource())

    def shutdown(self) -> None:
        """Export what is queued, as far as a server answers, and end all threads."""
        super().shutdown()
        self._exporters = []

    def abort(self) -> None:
        """Break off an export that waits for a server."""
        for exporter in self._exporters:
            if "timeout_millis" in signature(exporter.shutdown).parameters:
                exporter.shutdown(timeout_millis=0)  # type: ignore[call-arg]
            else:
                exporter.shutdown()


def _processor(exporter: SpanExporter) -> SpanProcessor:
    delay = None if os.environ.get(OTEL_BSP_SCHEDULE_DELAY) else _SCHEDULE_DELAY_MS
    try:
        return BatchSpanProcessor(exporter, schedule_delay_millis=delay)
    except RuntimeError as error:
        if is_interruption(error):
            raise
        # Python 3.12 starts no thread once the main thread is done: the program's first step was its last.
        return SimpleSpanProcessor(exporter)


def _program_provider() -> trace.TracerProvider | None:
    chosen = os.environ.get(OTEL_PYTHON_TRACER_PROVIDER, "")
    if chosen in _not_loaded and not sdk.provider_is_set():
        return None
    try:
        provider = trace.get_tracer_provider()
    except Exception as error:
        if is_interruption(error):
            raise
        _not_loaded.add(chosen)
        report(
            _LOGGER,
            "%s: %r is no provider that can be loaded; spans are sent as if it were not set",
            OTEL_PYTHON_TRACER_PROVIDER,
            chosen,
        )
        return None
    return None if isinstance(provider, trace.ProxyTracerProvider) else _unwrapped(provider)


def _unwrapped(provider: trace.TracerProvider) -> trace.TracerProvider:
    """Return the SDK's provider that `provider` is a wrapper of, as Logfire's is; else `provider` itself.

    Its tracers are wrapped too, and make spans of their own times and ids alone.
    """
    if isinstance(provider, TracerProvider):
        return provider
    held = getattr(provider, "__dict__", {}).values()
    of_sdk = [found for found in held if isinstance(found, TracerProvider)]
    return of_sdk[0] if len(of_sdk) == 1 else provider


def _build(service: str, services: Services) -> trace.TracerProvider:
    if os.environ.get(OTEL_SDK_DISABLED, "").strip().lower() == "true":
        return trace.NoOpTracerProvider()
    if os.environ.get(_OTEL_CONFIG_FILE):
        sdk.configure_from_file()
        return _program_provider() or trace.NoOpTracerProvider()
    ours = OwnTracerProvider(service, services)
    ours.open()
    if not ours.is_open:  # OTEL_TRACES_EXPORTER=none
        return trace.NoOpTracerProvider()
    return ours
