"""The tracer provider that spans go to: the program's own, or one of ours where it has none.

It is looked for when the first record opens, neither at import (a program sets its provider up later than
that) nor at exit (a provider cannot be made there: its detectors and processors start threads).

A provider of ours is what the SDK's configurator would make of the ``OTEL_*`` variables, for traces only:
metrics and logs of the program are not ours to set up. What cannot be read counts as not set. With
``OTEL_CONFIG_FILE`` the SDK does it all.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

from opentelemetry import trace
from opentelemetry.environment_variables import OTEL_TRACES_EXPORTER
from opentelemetry.sdk.environment_variables import OTEL_SDK_DISABLED
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter

from otel_torch_modules import _odd_values
from otel_torch_modules._emission import named, sdk
from otel_torch_modules._emission.global_providers import (
    given_meter_provider,
    program_provider,
    unwrapped,
)
from otel_torch_modules._emission.ids import UrandomIdGenerator
from otel_torch_modules._emission.missing_provider import Attempts, MissingProvider
from otel_torch_modules._emission.otlp.request_exporter import RequestExporter
from otel_torch_modules._emission.services import ONE, Services
from otel_torch_modules._emission.tracers import tracer_of
from otel_torch_modules._engine import fork
from otel_torch_modules._engine.engine import EXIT_TIMEOUT_S
from otel_torch_modules._engine.thread_shortage import shortage
from otel_torch_modules._heard_already import heard_already
from otel_torch_modules._interruption import is_interruption, suppressed
from otel_torch_modules._job.resource import build_resource, service_name
from otel_torch_modules._job.resource_detector import process_resource
from otel_torch_modules._log import report
from otel_torch_modules._own_thread import OwnThread
from otel_torch_modules._standard_variables import is_of_traces, read_standard
from otel_torch_modules.semconv import SCOPE_NAME

_LOGGER = logging.getLogger(__name__)

_LOOK_S = 0.05
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
        self._given = None if given is None else unwrapped(given)
        self._provider: trace.TracerProvider | None = None
        self._tracer_of: trace.TracerProvider | None = None
        self._tracer: trace.Tracer | None = None
        self._service_name: str | None = None
        self.environ: Mapping[str, str] = os.environ
        """The variables as they were when it was first needed: a program may clear them while a provider is made."""
        self._on_found = on_found
        self._attempts = Attempts()
        self._ours: OwnTracerProvider | None = None
        self._stand_down: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        self._preparation: threading.Thread | None = None
        self._is_given_up = False
        fork.watch(self)

    def after_fork_in_child(self) -> None:
        """Look anew; a provider of ours gets connections of its own at the next `resolve`."""
        self._lock = threading.Lock()
        self._preparation = None
        self._provider = self._tracer_of = self._tracer = None
        if self._ours is not None:
            self._ours.forget_exporters()

    def peek(self) -> trace.TracerProvider | None:
        """Return the provider if there is one already."""
        self.peek_tracer()
        return self._provider

    def peek_tracer(self) -> trace.Tracer | None:
        """Return the tracer of ours of `peek`'s provider: the same as long as the provider is.

        Cheap: for the training thread.
        """
        provider = self._provider
        if provider is None or (provider is self._ours and sdk.api._TRACER_PROVIDER is not None):
            theirs = self._given or program_provider()
            if theirs is not None:  # also where the program has set it after its first step
                self._settle(theirs)
                provider = theirs
        if provider is not self._tracer_of:
            self._tracer = None if provider is None else tracer_of(provider, SCOPE_NAME)
            self._tracer_of = provider  # last: the worker asks too
        return self._tracer

    def prepare(self) -> None:
        """Begin to find or make the provider, in a thread of its own.

        A program whose first step is its last waits for it, and makes its provider in time; but not for ever.
        """
        # Without the lock: `resolve` may hold it long, and this is the training thread.
        if self._preparation is None and self._provider is None and not shortage.lasts():
            self._service_name = service_name()  # the main module forgets its file at its end
            self.environ = dict(os.environ)
            thread = OwnThread(target=self._begin, name="otel-torch-modules-provider", daemon=True)
            with shortage:
                thread.start()
                self._preparation = thread
                with suppressed(RuntimeError):  # there are too many
                    OwnThread(target=self._hold_exit_up, name="otel-torch-modules-exit").start()

    def wait(self, timeout_s: float) -> bool:
        """Wait for what `prepare` began; return False where it takes too long."""
        preparation = self._preparation
        if preparation is None:
            return True
        if not self._is_given_up:
            preparation.join(timeout_s)
        return not preparation.is_alive()

    def resolve(self) -> trace.TracerProvider:
        """Return the provider, made now if need be. May take a second: never call it in the training thread.

        It is a `MissingProvider`, and not the one for good, where none can be made for now.
        """
        with self._lock:
            if self._provider is None:
                with fork.held_off:
                    theirs = self._given or program_provider()
                    provider = theirs or self._attempts.make(self._open_ours)
                    if isinstance(provider, MissingProvider):
                        return provider
                    self._settle(provider)
            assert self._provider is not None
            return self._provider

    def _hold_exit_up(self) -> None:
        """Python ends when this does, and before what is registered there: at exit, it starts no thread any more."""
        looks = 0
        while self._preparation is not None and self._preparation.is_alive():
            self._preparation.join(_LOOK_S)
            looks += not threading.main_thread().is_alive()
            if looks * _LOOK_S >= EXIT_TIMEOUT_S:
                self._is_given_up = True
                return

    def _begin(self) -> None:
        try:
            self.resolve()
        except BaseException as error:
            if is_interruption(error):
                raise
            # What leaves a thread goes to a hook of the program's, which may end the process.
            report(_LOGGER, "Sending could not begin; training goes on", error=error)

    def _open_ours(self) -> trace.TracerProvider:
        if self._ours is None:
            return _build(self._service_name or service_name(), self._services, self.environ)
        self._ours.open()  # in a forked child
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


class OwnTracerProvider(sdk.AsksNoDetectorInChild, TracerProvider):
    """A provider that we made because the program had none.

    It is not the process's global provider, which can be set only once: that place is the program's, who may come to it
    late. Until then the tracers that the program got without a provider are served by this one.

    Args:
        service: its name where the user gave it none.
        services: say which service spans are of.
        values: OpenTelemetry's variables, without what cannot be read; the environment's where they are not given.
    """

    def __init__(
        self,
        service: str,
        services: Services = ONE,
        values: Mapping[str, str] | None = None,
    ) -> None:
        self.services = services
        self._values = values = read_standard(os.environ).values if values is None else values
        super().__init__(
            sampler=named.sampler(values),
            resource=services.of_process(build_resource(service, values)),
            shutdown_on_exit=False,  # the SDK's takes 30 s where no server answers
            id_generator=named.id_generator(values) or UrandomIdGenerator(),
            span_limits=named.span_limits(values),
            **given_meter_provider(TracerProvider),
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
        self._exporters = named.trace_exporters(self._values)
        with heard_already():
            self.processors = tuple(
                [named.span_processor(exporter, self._values) for exporter in self._exporters]
            )
        sdk.replace_span_processors(self, self.processors)
        self._request_exporters = tuple(
            [exporter for exporter in self._exporters if isinstance(exporter, RequestExporter)]
        )

    def get_tracer(self, *scope: Any, **more: Any) -> trace.Tracer:
        """See the SDK's, which reads a variable each time."""
        with heard_already():
            return super().get_tracer(*scope, **more)

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


def _build(service: str, services: Services, environ: Mapping[str, str]) -> trace.TracerProvider:
    readable = read_standard(environ)
    _odd_values.log(one for one in readable.odd if is_of_traces(one.name))
    values = readable.values
    if values.get(OTEL_SDK_DISABLED) == "true":
        return trace.NoOpTracerProvider()
    if _OTEL_CONFIG_FILE in values:
        configured = _configured_from_file(values[_OTEL_CONFIG_FILE])
        if configured is not None:
            return configured
    if values.get(OTEL_TRACES_EXPORTER) == "none":
        return trace.NoOpTracerProvider()
    with heard_already():
        ours = OwnTracerProvider(service, services, values)
    ours.open()
    return ours if ours.is_open else trace.NoOpTracerProvider()


def _configured_from_file(path: str) -> trace.TracerProvider | None:
    """Return the provider that a file describes; None where it cannot be read."""
    try:
        sdk.configure_from_file()
    except BaseException as error:
        if is_interruption(error):
            raise
        report(
            _LOGGER,
            "%s=%s cannot be obeyed: %s: %s; it is ignored",
            _OTEL_CONFIG_FILE,
            path,
            type(error).__name__,
            error,
        )
        return program_provider()  # it may have been set up before that
    return program_provider() or trace.NoOpTracerProvider()
