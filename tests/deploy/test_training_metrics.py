"""Metrics of training: from a real run through the real collector to a real Prometheus, and on to a trace in Jaeger."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.deploy.prometheus import Prometheus, values
from tests.support.backend_servers import Jaeger
from tests.support.jaeger_query import poll
from tests.support.training_program import TRAIN, run, said

pytestmark = pytest.mark.backend

STEPS = 6

# Every other step is recorded; all are counted.
VARIABLES = {
    "OTEL_TORCH_MODULES_ENABLED": "true",
    "OTEL_TORCH_MODULES_SCHEDULE": "wait=1,active=1",
    "OTEL_SERVICE_NAME": "told",
    "OTEL_TRACES_EXPORTER": "otlp",
    "OTEL_METRICS_EXPORTER": "otlp",
    "RANK": "3",
    "WORLD_SIZE": "8",
}


@pytest.fixture(scope="module")
def told(
    tmp_path_factory: pytest.TempPathFactory, jaeger: Jaeger
) -> Iterator[tuple[Prometheus, float]]:
    """A Prometheus that knows of a run, and when that began."""
    with ExitStack() as running:
        prometheus = running.enter_context(Prometheus(tmp_path_factory.mktemp("prometheus")))
        collector = running.enter_context(
            prometheus.collector(tmp_path_factory.mktemp("collector"), jaeger)
        )
        began = time.time()
        done = run(
            tmp_path_factory.mktemp("run"),
            f"{TRAIN}\ntrain({STEPS})\n",
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{collector.otlp_grpc}",
            **VARIABLES,
        )
        assert said(done) == ""
        prometheus.wait_for("torch_steps_total")
        yield prometheus, began


@pytest.mark.parametrize(
    ("expression", "labels", "expected"),
    [
        ("torch_steps_total", ("service_name", "torch_distributed_rank"), {("told", "3"): 6}),
        ("torch_step_duration_seconds_count", (), {(): 6}),
        ("torch_step_index", (), {(): 5}),
        (
            "torch_phase_duration_seconds_count{torch_phase!='between'}",
            ("torch_phase",),
            {("forward",): 3, ("backward",): 3, ("optimizer",): 3},
        ),
        (  # of at least the first: such small steps come too fast to tell of the modules of each
            "min(torch_module_self_time_seconds_count) >= bool 1",
            (),
            {(): 1},
        ),
        (
            "count by (torch_phase, torch_module_pattern) (torch_module_self_time_seconds_count)",
            ("torch_phase", "torch_module_pattern"),
            {
                (phase, pattern): 1
                for phase in ("forward", "backward")
                for pattern in ("Net", "Net.fc", "Net.act")
            },
        ),
    ],
)
def test_all_steps_are_counted_and_those_recorded_in_detail(
    told: tuple[Prometheus, float],
    expression: str,
    labels: tuple[str, ...],
    expected: dict[tuple[str, ...], float],
) -> None:
    assert values(told[0].query(expression), *labels) == expected


@pytest.mark.parametrize(
    "metric", ["step_duration_seconds", "phase_duration_seconds", "module_self_time_seconds"]
)
def test_from_a_metric_to_the_trace_of_a_step(
    told: tuple[Prometheus, float], jaeger: Jaeger, metric: str
) -> None:
    prometheus, began = told

    def examples() -> list[dict[str, Any]]:
        return prometheus.exemplars(f"torch_{metric}_bucket", began)

    found = poll(examples, lambda answer: answer != [], metric)
    for trace_id in {one["labels"]["trace_id"] for one in found}:
        (root,) = poll(
            lambda trace_id=trace_id: jaeger.query.roots(trace_id),  # type: ignore[misc]
            lambda roots: roots != [],
            trace_id,
        )
        assert root.resource["service.name"] == "told"
        assert root.attributes["torch.step"] % 2 == 1
