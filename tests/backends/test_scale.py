"""Steps of ten thousand module calls: every span of every step is in Jaeger."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.collector import exporting_to
from benchmarks.deep import DeepTransformer
from benchmarks.scale import differing_trees, lost, train
from tests.support.backend_servers import Collector, Jaeger

pytestmark = [pytest.mark.backend, pytest.mark.slow]

STEPS = 5


def test_every_span_of_large_steps_arrives(jaeger: Jaeger, tmp_path: Path) -> None:
    model = DeepTransformer(10_000)
    with (
        # One of its own: what the other tests have sent is in the counters of theirs.
        Collector(tmp_path, "jaeger.yaml", JAEGER_ENDPOINT=jaeger.otlp_grpc) as collector,
        exporting_to(f"http://{collector.otlp_grpc}"),
    ):
        trained = train(model, STEPS, collector)
        assert lost(collector, jaeger, trained, model.spans_of_a_step) == []
    assert len(set(trained.trace_ids)) == STEPS
    assert differing_trees(jaeger, trained, model.spans_of_a_step) == []
