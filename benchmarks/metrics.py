"""What metrics of training cost the worker: steps assembled and encoded, told of by metrics too, or not.

    python -m benchmarks.metrics [--quick]

Processor time of one thread. Every step is told of whole: what leaves modules out of steps that come fast is off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from benchmarks.enough import Enough
from benchmarks.figures import Row, median, ratio_of_medians
from benchmarks.machine import processor_ns
from benchmarks.part import print_rows
from benchmarks.recorded import recording_into
from benchmarks.toy import Toy, training_step
from benchmarks.varying import Sending
from otel_torch_modules import Config
from otel_torch_modules._emission.training_metrics import TrainingMetrics
from otel_torch_modules._records import Record
from otel_torch_modules._spans.columns import SpanColumns
from otel_torch_modules._spans.figures import StepFigures
from otel_torch_modules._spans.span import Span

_BLOCKS = 40  # 243 calls a forward, of 8 patterns
_FIRST = 5  # steps, that are read
_BAR = 1.4


def _telling() -> Callable[[Record, Span | SpanColumns], None]:
    provider = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    metrics = TrainingMetrics(provider.get_meter("benchmark"), cpu=lambda: 0)
    figures = StepFigures()
    return lambda record, tree: metrics.step_ended(record, figures.of(tree, 1), sent=True)


def told_of(enough: Enough) -> list[Row]:
    """Compare sending a step with metrics and without."""
    ways = {"with": Sending(Config(), _telling()), "without": Sending(Config())}
    found: dict[str, list[float]] = {name: [] for name in ways}
    records: list[Record] = []
    train = training_step(Toy(_BLOCKS), torch.randn(2, 4, 8))

    def one_round() -> None:
        with steps.step(None):
            train()
        steps.finish()
        for name, way in ways.items():
            found[name].append(processor_ns(partial(way.send, records[-1])) / 1e3)
        records.clear()

    with recording_into(records.append) as steps:
        for _ in range(_FIRST):
            one_round()
        for figures in found.values():
            figures.clear()
        for _ in enough.rounds(lambda: _rows(found)):
            one_round()
    return _rows(found)


COMPARISONS = (told_of,)


def _rows(found: Mapping[str, Sequence[float]]) -> list[Row]:
    told, alone = found["with"], found["without"]
    what = "a step on the worker with metrics of training, against without"
    note = f"{median(told).value:.0f} and {median(alone).value:.0f} µs a step of 243 calls"
    return [Row(what, _BAR, "x", ratio_of_medians(told, alone), note=note)]


if __name__ == "__main__":
    print_rows(__doc__, COMPARISONS)
