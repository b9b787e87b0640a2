"""Rules, alerts, dashboard and Jaeger's Monitor tab over what the real collector offers to a real Prometheus."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from otel_torch_modules import semconv
from otel_torch_modules._emission.training_metrics import TrainingMetrics
from otel_torch_modules._records import Record
from otel_torch_modules._spans.figures import Figures
from tests.deploy.prometheus import Prometheus, get, values
from tests.deploy.steps import exporter_to, send, steps_until_now
from tests.support.backend_programs import DEPLOY, find_on_path
from tests.support.backend_servers import Jaeger

pytestmark = pytest.mark.backend

DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/training-steps.json").read_text())
DATASOURCES = DEPLOY / "grafana/provisioning/datasources/datasources.yaml"
SPANS_A_ROUND = 14 + 29  # of a step of one process and a step of two ranks
ALERTS = [
    "TrainingStepsSlowerThanUsual",
    "NoTrainingStep",
    "TrainingWaitsForData",
    "SpansDropped",
]
RECORDS = [
    *("torch:step_duration_seconds:p50", "torch:step_duration_seconds:p90"),
    *("torch:step_duration_seconds:p99", "torch:training_seconds:rate5m"),
    *("torch:phase_seconds:rate5m", "torch:rank_busy_seconds:rate5m", "torch:phase_share:rate5m"),
]


class Rank(ExitStack):
    """The metrics of training of one rank of `many`: each step is skipped, and the one before was lost.

    Rank 1 takes a module 0.3 s, rank 0 half of that.
    """

    def __init__(self, endpoint: str, rank: int) -> None:
        super().__init__()
        exporter = OTLPMetricExporter(endpoint=endpoint, insecure=True)
        resource = Resource({semconv.DISTRIBUTED_RANK: rank, "service.name": "many"})
        reader = PeriodicExportingMetricReader(exporter, math.inf)
        self._provider = MeterProvider([reader], resource, shutdown_on_exit=False)
        self.callback(self._provider.shutdown)
        meter = self._provider.get_meter(semconv.SCOPE_NAME)
        self._metrics = TrainingMetrics(meter)
        self._lost = meter.create_counter(semconv.METRIC_PROCESSED, semconv.UNIT_STEP)
        self._seconds = 0.15 + rank * 0.15

    def tell(self) -> None:
        self._lost.add(1, {semconv.ERROR_TYPE: semconv.QUEUE_FULL})
        own = {("GPT.h.*.attn", "forward"): self._seconds}
        figures = Figures(0.5, {"forward": self._seconds, "data": 0.05}, own)
        self._metrics.step_ended(Record("step", 7, 0, 0, skipped=True), figures, sent=False)
        assert self._provider.force_flush()


class Fed(NamedTuple):
    prometheus: Prometheus
    jaeger: Jaeger


def test_files_are_valid() -> None:
    promtool = find_on_path("promtool", "prometheus")
    subprocess.run([promtool, "check", "config", DEPLOY / "prometheus/prometheus.yaml"], check=True)
    rules = Path(__file__).with_name("rules_test.yaml")
    subprocess.run([promtool, "test", "rules", rules], check=True)


@pytest.fixture(scope="module")
def fed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fed]:
    """Prometheus when it has seen two jobs at work: `one` process, and `many` with two ranks."""
    with ExitStack() as running:
        prometheus = running.enter_context(Prometheus(tmp_path_factory.mktemp("prometheus")))
        jaeger = running.enter_context(
            Jaeger(tmp_path_factory.mktemp("jaeger"), PROMETHEUS_URL=prometheus.url)
        )
        collector = running.enter_context(
            prometheus.collector(
                tmp_path_factory.mktemp("collector"), jaeger, METRICS_FLUSH_INTERVAL="100ms"
            )
        )
        exporter = exporter_to(collector.otlp_grpc)
        ranks = [running.enter_context(Rank(collector.otlp_grpc, rank)) for rank in range(2)]
        for number in range(1, 4):
            send(exporter, steps_until_now("one", [100]))
            send(exporter, steps_until_now("many", [100], ranks=[100, 80], failed=number > 1))
            for rank in ranks:
                rank.tell()
            total = number * SPANS_A_ROUND
            prometheus.wait_for(f"sum(traces_span_metrics_calls_total) == {total}")
            prometheus.wait_for(f"min(torch_step_duration_seconds_count) == {number}")
        prometheus.wait_for("count(torch:phase_share:rate5m) == 8")
        prometheus.wait_for("count(torch:step_duration_seconds:p99 > 0) == 2")
        yield Fed(prometheus, jaeger)


def test_shares_of_one_process_and_of_several_ranks(fed: Fed) -> None:
    series = fed.prometheus.query("torch:phase_share:rate5m")
    assert values(series, "service_name", "torch_phase") == {
        (service, phase): pytest.approx(share)
        for service in ("many", "one")
        for phase, share in [("backward", 0.5), ("data", 0.1), ("forward", 0.3), ("optimizer", 0.1)]
    }


def panel_queries(kind: str, key: str) -> list[Any]:
    return [
        pytest.param(target[key], id=f"{panel['title']} {target['refId']}")
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
        if target["datasource"]["type"] == kind
    ]


def filled_in(expression: str) -> str:
    known = {"service": "many", "beside": "one", "__rate_interval": "5m"}
    for name, value in known.items():
        expression = expression.replace(f"${name}", value)
    return expression


@pytest.mark.parametrize("expression", panel_queries("prometheus", "expr"))
def test_panels_show_something(fed: Fed, expression: str) -> None:
    series = fed.prometheus.query(filled_in(expression))
    if "failed_spans" in expression:
        assert series == []  # nothing was dropped
    else:
        assert [one for one in series if one["value"][1] != "NaN"] != []


@pytest.mark.parametrize(
    ("title", "label", "leading"),
    [
        ("Own time by class", "torch_module_class", "Attn"),
        ("Own time by place", "torch_module_fqn_pattern", "GPT.h.*.attn"),
    ],
)
def test_what_calls_others_does_not_lead_and_ranks_count_as_they_are(
    fed: Fed, title: str, label: str, leading: str
) -> None:
    (panel,) = [one for one in DASHBOARD["panels"] if one["title"] == title]
    series = values(
        fed.prometheus.query(filled_in(panel["targets"][0]["expr"])), "torch_phase", label
    )
    assert series.pop(("forward", leading)) == pytest.approx(3 / 8)
    assert series.pop(("backward", leading)) == pytest.approx(5 / 8)
    assert set(series.values()) == {0.0}
    assert len(series) == 4  # the model and the block, forward and backward


def test_who_is_waited_for_is_who_is_busy(fed: Fed) -> None:
    (panel,) = [one for one in DASHBOARD["panels"] if one["title"] == "Who holds the others up"]
    series = fed.prometheus.query(filled_in(panel["targets"][0]["expr"]))
    assert values(series, "torch_distributed_rank") == {
        ("0",): pytest.approx(-0.075),
        ("1",): pytest.approx(0.075),
    }


def test_starts_are_marked(fed: Fed) -> None:
    (annotation,) = DASHBOARD["annotations"]["list"]
    (series,) = fed.prometheus.query(filled_in(annotation["expr"]))
    assert (series["metric"], series["value"][1]) == ({"service_name": "many"}, "2")


def test_the_dashboards_list_of_jobs(fed: Fed) -> None:
    (variable,) = [one for one in DASHBOARD["templating"]["list"] if one["name"] == "service"]
    selector, label = (
        variable["query"]["query"].removeprefix("label_values(").removesuffix(")").rsplit(", ", 1)
    )
    assert set(values(fed.prometheus.query(selector), label)) == {("many",), ("one",)}


@pytest.mark.parametrize("index", [0, 1])
def test_from_a_span_to_its_metrics(fed: Fed, index: int) -> None:
    (tempo,) = [
        source
        for source in yaml.safe_load(DATASOURCES.read_text())["datasources"]
        if source["type"] == "tempo"
    ]
    link = tempo["jsonData"]["tracesToMetrics"]
    span = {"service.name": "one", "torch.phase": "forward", "torch.module.class": "Attn"}
    tags = ", ".join(f'{tag["value"]}="{span[tag["key"]]}"' for tag in link["tags"])
    (series,) = fed.prometheus.query(link["queries"][index]["query"].replace("$$__tags", tags))
    assert float(series["value"][1]) > 0


def test_alerts_and_rules_are_loaded_and_healthy(fed: Fed) -> None:
    groups = get(f"{fed.prometheus.url}/api/v1/rules")["data"]["groups"]
    assert [(rule["name"], rule["health"]) for group in groups for rule in group["rules"]] == [
        *[(name, "ok") for name in ALERTS],
        *[(name, "ok") for name in RECORDS],
    ]


@pytest.mark.parametrize(("kind", "phase"), [("producer", "forward"), ("consumer", "backward")])
def test_jaegers_monitor_tab_reads_the_same_metrics(fed: Fed, kind: str, phase: str) -> None:
    """The page asks this address; `/api/v3` has no metrics yet."""
    medians = monitor(fed.jaeger, "latencies", kind, quantile="0.5")
    assert sorted(medians) == [f"{phase} GPT", f"{phase} attn", f"{phase} h.*"]
    assert all(10 <= median <= 50 for median in medians.values())  # milliseconds
    assert sorted(monitor(fed.jaeger, "calls", kind)) == sorted(medians)


def monitor(jaeger: Jaeger, metric: str, kind: str, **parameters: str) -> dict[str, float]:
    answer = get(
        f"{jaeger.url}/api/metrics/{metric}",
        service="one",
        spanKind=kind,
        groupByOperation="true",
        lookback=600_000,
        ratePer=600_000,
        step=5_000,
        **parameters,
    )
    return {
        label["value"]: [point["gaugeValue"]["doubleValue"] for point in metric["metricPoints"]][-1]
        for metric in answer["metrics"]
        for label in metric["labels"]
        if label["name"] == "operation"
    }
