"""What became of the steps, as metrics of the program's own meter provider, and of ours where one is made.

They are to whole steps what the SDK's ``otel.sdk.processor.span.*`` are to spans:
https://opentelemetry.io/docs/specs/semconv/otel/sdk-metrics/. All are asynchronous: the worker counts in plain
integers, and a metric reader comes for them, so neither the worker nor the training thread calls the metrics API. No
meter provider is ever set here; without one of the program's, the API's instruments do nothing.

The API cannot take an instrument back. So a process makes them once, their callbacks know the workers weakly, and
without a worker they observe nothing.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache
from importlib.metadata import version

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Meter, Observation

from otel_torch_modules import semconv
from otel_torch_modules._emission.global_providers import meter_provider
from otel_torch_modules._engine import fork
from otel_torch_modules._engine.worker import Worker
from otel_torch_modules._interruption import is_interruption
from otel_torch_modules._log import report
from otel_torch_modules._weak_table import WeakTable

_LOGGER = logging.getLogger(__name__)

_COMPONENT = {
    semconv.COMPONENT_TYPE: semconv.STEP_PROCESSOR,
    semconv.COMPONENT_NAME: f"{semconv.STEP_PROCESSOR}/0",  # all workers of a process are one
}


class StepMetrics:
    """The instruments of one meter. They show the sum over the workers that are watched.

    What workers had counted when they were left stays in the sum: a counter does not run backwards where tracing
    is taken off and put on again.

    Args:
        meter: makes the instruments.
    """

    def __init__(self, meter: Meter) -> None:
        self._workers = WeakTable[Worker, bool]()
        self.after_fork_in_child()
        fork.watch(self)
        self.show_on(meter)

    def show_on(self, meter: Meter) -> None:
        """Show the same on another meter as well."""
        meter.create_observable_counter(
            semconv.METRIC_PROCESSED,
            [self._observe_processed],
            unit=semconv.UNIT_STEP,
            description="Steps and evaluations that were sent, were dropped or got lost: see error.type.",
        )
        meter.create_observable_up_down_counter(
            semconv.METRIC_QUEUE_SIZE,
            [lambda _: self._observe(lambda worker: worker.queue.bytes)],
            unit=semconv.UNIT_BYTES,
            description="Memory that steps and evaluations take which wait to be sent.",
        )
        meter.create_observable_up_down_counter(
            semconv.METRIC_QUEUE_CAPACITY,
            [lambda _: self._observe(lambda worker: worker.queue.capacity)],
            unit=semconv.UNIT_BYTES,
            description="Memory that they may take; what is more is left out.",
        )

    def after_fork_in_child(self) -> None:
        """Count from nothing: what the parent did is its own to say."""
        self._lock = threading.Lock()  # of readers' threads against `watch` and `unwatch`
        self._left: Counter[str] = Counter()  # outcomes of former workers

    def watch(self, worker: Worker) -> None:
        """Show what `worker` counts."""
        with self._lock:
            self._workers.put(worker, True)

    def unwatch(self, worker: Worker) -> None:
        """Undo `watch`."""
        with self._lock:
            if self._workers.get(worker):
                self._workers.drop(worker)
                self._left.update(worker.outcomes())

    def _observe_processed(self, _: CallbackOptions) -> Iterable[Observation]:
        with self._lock:
            workers = list(self._workers)
            outcomes = Counter(self._left)
            for worker in workers:
                outcomes.update(worker.outcomes())
        if not workers:
            return []
        return [
            Observation(number, {**_COMPONENT, semconv.ERROR_TYPE: error} if error else _COMPONENT)
            for error, number in outcomes.items()
        ]

    def _observe(self, value: Callable[[Worker], int]) -> Iterable[Observation]:
        with self._lock:
            values = [value(worker) for worker in self._workers]
        return [Observation(sum(values), _COMPONENT)] if values else []


@cache
def _of_process() -> StepMetrics:
    provider = meter_provider() or metrics.NoOpMeterProvider()
    return StepMetrics(provider.get_meter(semconv.SCOPE_NAME, version("otel-torch-modules")))


def watch(worker: Worker) -> None:
    """Show what `worker` counts to the program's meter provider, also to one that is set later."""
    try:
        _of_process().watch(worker)
    except BaseException as error:  # of a provider of the program's
        if is_interruption(error):
            raise
        report(_LOGGER, "Steps are traced, but there are no metrics about them", error=error)


def show_on(meter: Meter) -> None:
    """Show the same to the readers of a meter provider of ours."""
    _of_process().show_on(meter)


def unwatch(worker: Worker) -> None:
    """Undo `watch`."""
    if _of_process.cache_info().currsize:
        _of_process().unwatch(worker)
