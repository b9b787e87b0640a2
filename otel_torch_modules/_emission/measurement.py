"""Trees of steps -> metrics of the meter provider that there is. An error here costs metrics, and no spans."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from importlib.metadata import version

from opentelemetry import metrics
from opentelemetry.sdk.resources import Resource

from otel_torch_modules import semconv
from otel_torch_modules._emission import step_metrics
from otel_torch_modules._emission.meter_provider import LazyMeterProvider
from otel_torch_modules._emission.training_metrics import TrainingMetrics
from otel_torch_modules._interruption import is_interruption
from otel_torch_modules._log import report
from otel_torch_modules._records import Record
from otel_torch_modules._spans.columns import SpanColumns
from otel_torch_modules._spans.figures import Kind, StepFigures
from otel_torch_modules._spans.span import Span
from otel_torch_modules._weak_table import WeakTable

_LOGGER = logging.getLogger(__name__)

# An instrument cannot be taken back: a provider has one set of them, however often tracing is put on.
_of_providers = WeakTable[metrics.MeterProvider, TrainingMetrics]()


class Measurement:
    """Tells of steps, on the worker's thread.

    Args:
        resource: says what a meter provider of ours tells of.
        environ: returns the variables by which it is made.
    """

    def __init__(
        self, resource: Callable[[], Resource], environ: Callable[[], Mapping[str, str]]
    ) -> None:
        self._provider = LazyMeterProvider(resource, environ)
        self._figures = StepFigures()
        self._failed = False

    def step_ended(self, record: Record, tree: Span | SpanColumns, *, sent: bool) -> None:
        """Tell of a step whose tree was handed to the exporters where it was `sent`."""

        def tell(told: TrainingMetrics) -> None:
            figures = self._figures.of(tree, _heads(record))
            told.step_ended(record, figures, sent=sent and not record.phases_only)

        self._guarded(tell)

    def modules_left_out(
        self, record: Record, assemble: Callable[[Record], Span | SpanColumns]
    ) -> None:
        """Tell of the modules of a step whose log still has them, and whose spans will not.

        Args:
            record: the step.
            assemble: makes its tree.
        """

        def modules() -> Mapping[Kind, float]:
            tree = assemble(record)
            try:
                return self._figures.of(tree, _heads(record)).modules
            finally:
                tree.release()

        self._guarded(lambda told: told.modules_left_out(modules))

    def left_out_step_ended(self, record: Record) -> None:
        """Tell of a step that was not recorded."""
        self._guarded(lambda told: told.left_out_step_ended(record))

    def _guarded(self, tell: Callable[[TrainingMetrics], None]) -> None:
        try:
            told = self._metrics()
            if told is not None:
                tell(told)
        except BaseException as error:
            if is_interruption(error):
                raise
            self._fail(error)

    def close(self) -> None:
        """Export what there is."""
        self._provider.close()

    def _metrics(self) -> TrainingMetrics | None:
        provider = self._provider.peek()
        if provider is None:
            return None
        known = _of_providers.get(provider)
        if known is None:
            meter = provider.get_meter(semconv.SCOPE_NAME, version("otel-torch-modules"))
            known = TrainingMetrics(meter)
            _of_providers.put(provider, known)
            if self._provider.is_ours:
                step_metrics.show_on(meter)
        return known

    def _fail(self, error: BaseException) -> None:
        if not self._failed:
            self._failed = True
            report(_LOGGER, "Steps are traced, but metrics of training are incomplete", error=error)


def _heads(record: Record) -> int:
    return 1 if record.shared is None else 2
