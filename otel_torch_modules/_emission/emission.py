"""Emission as a whole: the provider, the current span, the emitter and the last words, put together."""

from __future__ import annotations

from collections.abc import Callable

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource

from otel_torch_modules._emission.current_span import RecordContext
from otel_torch_modules._emission.emitter import Emitter
from otel_torch_modules._emission.last_words import say_last_words
from otel_torch_modules._emission.measurement import Measurement
from otel_torch_modules._emission.meter_provider import is_asked_for
from otel_torch_modules._emission.otlp.file import OtlpFileSpanExporter
from otel_torch_modules._emission.provider import LazyTracerProvider
from otel_torch_modules._emission.services import Services
from otel_torch_modules._engine.deliveries import Deliveries
from otel_torch_modules._job.identity import JobIdentity
from otel_torch_modules._job.resource import build_resource, service_name
from otel_torch_modules._job.starter import JobContext
from otel_torch_modules._standard_variables import read_standard
from otel_torch_modules._step_context import OpenSpan


class Emission:
    """Sends the spans of records: see `Outlet`, whose methods these are.

    Args:
        open_span: what is open in a thread, for the program's own spans.
        identity: what this process is in its job.
        job_context: what started the job.
        deliveries: is told what became of records.
        tracer_provider: to use instead of the program's global one.
        on_found: called when the tracer provider is known.
        services: how spans are parted between services.
    """

    def __init__(
        self,
        *,
        open_span: OpenSpan,
        identity: JobIdentity,
        job_context: JobContext,
        deliveries: Deliveries,
        tracer_provider: trace.TracerProvider | None,
        on_found: Callable[[], None],
        services: str = "one",
    ) -> None:
        self._deliveries = deliveries
        self._provider = LazyTracerProvider(
            tracer_provider, on_found=on_found, services=Services(services)
        )
        self._emitter = Emitter(self._provider.resolve, job_context, deliveries=deliveries)
        self.emit, self.idle = self._emitter.emit, self._emitter.idle
        self.export = self._emitter.flush
        self.wait, self.prepare = self._provider.wait, self._provider.prepare
        self.measures_anyway = is_asked_for()
        """Whether there are metrics though no step may ever be recorded."""
        self._measurement = Measurement(self._resource, lambda: self._provider.environ)
        self.measure = self._measurement.step_ended
        self.measure_modules_left_out = self._measurement.modules_left_out
        self.measure_left_out = self._measurement.left_out_step_ended
        self.context = RecordContext(open_span, self._provider, self._provider.prepare, identity)

    def _resource(self) -> Resource:
        resource: Resource | None = getattr(self._provider.resolve(), "resource", None)
        if resource is not None:
            return resource
        return build_resource(service_name(), read_standard(self._provider.environ).values)

    def close(self) -> None:
        try:
            self._provider.close()
        finally:
            self._measurement.close()

    @property
    def is_ours(self) -> bool:
        return self._provider.is_ours

    @property
    def file(self) -> str:
        """The path of the file that spans are written to; empty where they go elsewhere."""
        paths = [e.path for e in self._provider.exporters if isinstance(e, OtlpFileSpanExporter)]
        return paths[0] if paths else ""

    @property
    def ready(self) -> bool:
        return self._emitter.ready

    def expect_end(self) -> None:
        self.context.leave_closed()
        for exporter in self._provider.exporters:
            exporter.trouble.muted = True  # there will be one line for all

    def end(self, in_time: bool) -> None:
        say_last_words(self._deliveries, self._provider.exporters)
        if not in_time:
            self._provider.abort()
            self._measurement.close()  # the worker may not come to it any more
