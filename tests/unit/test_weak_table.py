"""What a table has for a key does not keep it: it goes with the key, and the table stays small."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any
from weakref import ref

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import SpanLimits, TracerProvider

from otel_torch_modules._assembly.assembler import Assembler
from otel_torch_modules._emission import limits, measurement
from otel_torch_modules._emission.limits import Limits
from otel_torch_modules._emission.training_metrics import TrainingMetrics
from otel_torch_modules._spans.columns import SpanColumns
from otel_torch_modules._spans.figures import StepFigures
from otel_torch_modules._weak_table import WeakTable
from otel_torch_modules.config import Config
from tests.unit.assembly.repeating.test_repeats import simple

Filled = tuple[WeakTable[Any, Any], Any]


def limits_of_a_provider() -> Filled:
    provider = TracerProvider(span_limits=SpanLimits(max_attributes=3), shutdown_on_exit=False)
    tracer = provider.get_tracer("test")
    Limits.of(tracer)  # type: ignore[arg-type]
    return limits._of_sdk, tracer._span_limits  # type: ignore[attr-defined]


def metrics_of_a_provider() -> Filled:
    provider = MeterProvider(shutdown_on_exit=False)
    measurement._of_providers.put(provider, TrainingMetrics(provider.get_meter("test")))
    return measurement._of_providers, provider


def modules_of_a_layout() -> Filled:
    assembler, figures = Assembler(Config()), StepFigures()
    for at in range(3):
        tree = assembler.assemble(simple(1000 * at, 10 * at))
    assert isinstance(tree, SpanColumns)
    figures.of(tree, 1)
    return figures._modules, tree.layout


@pytest.mark.parametrize("fill", [limits_of_a_provider, metrics_of_a_provider, modules_of_a_layout])
def test_no_value_keeps_its_key(fill: Callable[[], Filled]) -> None:
    table, key = fill()
    assert table.get(key) is not None
    known = ref(key)
    del key
    gc.collect()
    assert known() is None
