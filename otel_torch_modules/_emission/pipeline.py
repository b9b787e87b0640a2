"""Emission as a whole: the provider, the worker, the current span and the end of the process, put together."""

from __future__ import annotations

from collections.abc import Callable

from opentelemetry import trace

from otel_torch_modules._emission import step_metrics
from otel_torch_modules._emission.current_span import RecordContext
from otel_torch_modules._emission.emitter import Emitter
from otel_torch_modules._emission.last_words import say_last_words
from otel_torch_modules._emission.provider import LazyTracerProvider
from otel_torch_modules._engine.deliveries import Deliveries
from otel_torch_modules._engine.process_exit import AtExit
from otel_torch_modules._engine.worker import Worker
from otel_torch_modules._job.identity import JobIdentity
from otel_torch_modules._job.starter import JobContext
from otel_torch_modules._records import OpenSpan, Record
from otel_torch_modules._spans.columns import SpanColumns
from otel_torch_modules._spans.span import Span

EXIT_TIMEOUT_S = 4.5
"""How long exit waits for a collector that does not answer; with what breaking off takes, less than five seconds."""

_CAPACITY = 64 << 20  # bytes of records that may wait


class Pipeline:
    """Takes records, sends spans.

    Args:
        assemble: makes the tree of a record.
        open_span: what is open in a thread, for the program's own spans.
        hand_over: puts what is finished but was not handed over yet; called on the worker thread, often.
        finish: puts what is not finished either; called once, at exit and at `stop`.
        identity: what this process is in its job.
        job_context: what started the job.
        tracer_provider: to use instead of the program's global one.
        exit_timeout_s: how long the end of the process may wait for a collector that does not answer.
    """

    def __init__(
        self,
        *,
        assemble: Callable[[Record], Span | SpanColumns],
        open_span: OpenSpan,
        hand_over: Callable[[], None],
        finish: Callable[[], None],
        identity: JobIdentity,
        job_context: JobContext,
        tracer_provider: trace.TracerProvider | None = None,
        exit_timeout_s: float = EXIT_TIMEOUT_S,
    ) -> None:
        self._assemble = assemble
        self._hand_over = hand_over
        self._finish = finish
        self._at_exit = AtExit(lambda: self._end(self._exit_timeout_s))
        self._provider = LazyTracerProvider(tracer_provider, on_found=self._begin)
        self._deliveries = Deliveries()
        self._emitter = Emitter(self._provider.resolve, job_context, deliveries=self._deliveries)
        self._worker = Worker(self, self._deliveries, capacity=_CAPACITY)
        self.context = RecordContext(
            open_span,
            self._provider,
            self._provider.prepare,
            identity,
            short_of_room=lambda: self._worker.queue.nearly_full,
        )
        self._at_exit.register()
        self._exit_timeout_s = exit_timeout_s
        self._before_exit = AtExit(self._hand_in)
        step_metrics.watch(self._worker)

    def put(self, record: Record) -> bool:
        """Hand over a finished record without waiting; return False where it was dropped."""
        return self._worker.put(record)

    def lose(self, error_type: str) -> None:
        """Count a record that an error of this type has cost."""
        self._worker.lose(error_type)

    def flush(self, timeout_s: float) -> bool:
        """Wait until all that was put has been exported."""
        return self._worker.flush(timeout_s)

    def stop(self, timeout_s: float) -> bool:
        """Send what there is, end all threads; return False where that took longer and was broken off."""
        in_time = self._end(timeout_s)
        step_metrics.unwatch(self._worker)
        return in_time

    def _end(self, timeout_s: float) -> bool:
        # At exit this is all: the program's meter provider ends after us, and reads the numbers once more.
        self._provider.wait(timeout_s)
        self._before_exit.unregister()
        self._at_exit.unregister()
        self._finish()
        self.context.leave_closed()
        for exporter in self._provider.exporters:
            exporter.trouble.muted = True  # there will be one line for all
        in_time = self._worker.stop(timeout_s)
        say_last_words(self._deliveries, self._provider.exporters)
        if not in_time:
            self._provider.abort()
        return in_time

    def _begin(self) -> None:
        if self._provider.is_ours:
            self._before_exit.register()
        else:
            self._at_exit.register()  # once more: before the callbacks of the provider just found
        self._worker.start()  # now: at exit, Python 3.12 starts no thread any more

    def _hand_in(self) -> None:
        """Send what there is, before what the program has registered at exit: that may train, or end the process."""
        self._finish()
        if not self._worker.flush(self._exit_timeout_s):
            self._exit_timeout_s = 0.0  # nobody answers: once is enough to wait

    @property
    def ready(self) -> bool:
        """See `Sender`, as for what follows."""
        return self._emitter.ready

    def handle(self, record: Record) -> None:
        """Assemble `record` and send it."""
        with self._deliveries.assembling(record):
            # Assembly keeps the last records for a while, and a context may hold what is the program's.
            context, record.context = record.context, None
            self.context.settle(record)
            tree = self._assemble(record)
            self._emitter.emit(tree, context)
            tree.release()

    def idle(self) -> None:
        """Do what is due."""
        self._hand_over()
        self._emitter.idle()

    def export(self) -> bool:
        """Try to send all that was handled."""
        return self._emitter.flush()

    def close(self) -> None:
        """End the provider, where it is one of ours."""
        self._provider.close()
