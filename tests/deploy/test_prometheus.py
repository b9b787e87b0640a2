"""Rules, alerts, dashboard and Jaeger's Monitor tab over what the real collector offers to a real Prometheus."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.deploy.steps import exporter_to, send, steps_until_now
from tests.support.backend_programs import DEPLOY, Program, find_on_path, free_ports
from tests.support.backend_servers import Collector, Jaeger
from tests.support.jaeger_query import poll

pytestmark = pytest.mark.backend

DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/training-steps.json").read_text())
DATASOURCES = DEPLOY / "grafana/provisioning/datasources/datasources.yaml"
SPANS_A_ROUND = 14 + 29  # of a step of one process and a step of two ranks
ALERTS = ["TrainingStepsSlowerThanUsual", "TrainingWaitsForData", "SpansDropped"]
RECORDS = [
    *("torch:step_duration_seconds:p50", "torch:step_duration_seconds:p90"),
    *("torch:step_duration_seconds:p99", "torch:training_seconds:rate5m"),
    *("torch:phase_seconds:rate5m", "torch:phase_share:rate5m"),
]


class Prometheus(Program):
    """Prometheus with the shipped files, but for the targets and the pace: every 200 ms, not 15 s."""

    def __init__(self, folder: Path) -> None:
        self._config = folder / "config"
        shutil.copytree(DEPLOY / "prometheus", self._config)
        self.scrape_from([])
        settings = self._config / "prometheus.yaml"
        settings.write_text(settings.read_text().replace("interval: 15s", "interval: 200ms"))
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        super().__init__(
            [
                find_on_path("prometheus", "prometheus"),
                f"--config.file={settings}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            {},
            f"{self.url}/-/ready",
            folder / "prometheus.log",
        )

    def scrape_from(self, targets: list[str]) -> None:
        """Replace the targets of a running Prometheus."""
        (self._config / "targets.yaml").write_text(yaml.safe_dump([{"targets": targets}]))

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an instant query: `metric` and `value`, ordered by labels."""
        answer = get(f"{self.url}/api/v1/query", query=expression)
        return sorted(answer["data"]["result"], key=lambda series: sorted(series["metric"].items()))


class Fed(NamedTuple):
    prometheus: Prometheus
    jaeger: Jaeger


def get(url: str, **parameters: str | int) -> Any:
    with urllib.request.urlopen(
        f"{url}?{urllib.parse.urlencode(parameters)}", timeout=30
    ) as answer:
        return json.load(answer)


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
        (port,) = free_ports(1)
        collector = running.enter_context(
            Collector(
                tmp_path_factory.mktemp("collector"),
                "metrics.yaml",
                JAEGER_ENDPOINT=jaeger.otlp_grpc,
                PROMETHEUS_EXPORTER_ENDPOINT=f"127.0.0.1:{port}",
                METRICS_FLUSH_INTERVAL="100ms",
            )
        )
        own_metrics = collector.metrics_url.removeprefix("http://").removesuffix("/metrics")
        prometheus.scrape_from([f"127.0.0.1:{port}", own_metrics])
        exporter = exporter_to(collector.otlp_grpc)
        for total in SPANS_A_ROUND, 2 * SPANS_A_ROUND, 3 * SPANS_A_ROUND:
            send(exporter, steps_until_now("one", [100]))
            send(exporter, steps_until_now("many", [100], ranks=[100, 80]))
            wait_for(prometheus, f"sum(traces_span_metrics_calls_total) == {total}")
        wait_for(prometheus, "count(torch:phase_share:rate5m) == 8")
        yield Fed(prometheus, jaeger)


def wait_for(prometheus: Prometheus, expression: str) -> None:
    poll(lambda: prometheus.query(expression), lambda series: series != [], expression)


def values(series: list[dict[str, Any]], *labels: str) -> dict[tuple[str, ...], float]:
    return {
        tuple(one["metric"].get(label, "") for label in labels): float(one["value"][1])
        for one in series
    }


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
    return expression.replace("$service", "many").replace("$__rate_interval", "5m")


@pytest.mark.parametrize("expression", panel_queries("prometheus", "expr"))
def test_panels_show_something(fed: Fed, expression: str) -> None:
    series = fed.prometheus.query(filled_in(expression))
    if "failed_spans" in expression:
        assert series == []  # nothing was dropped
    else:
        assert [one for one in series if one["value"][1] != "NaN"] != []


def test_the_slowest_modules_are_in_milliseconds_per_step(fed: Fed) -> None:
    (panel,) = [one for one in DASHBOARD["panels"] if one["title"] == "Slowest modules by class"]
    series = fed.prometheus.query(filled_in(panel["targets"][0]["expr"]))
    assert values(series, "torch_phase", "torch_module_class") == {
        # Two ranks: 100 ms and 80 ms, three tenths of it forward and five tenths backward.
        ("forward", "GPT"): pytest.approx(54),
        ("forward", "Block"): pytest.approx(54),
        ("forward", "Attn"): pytest.approx(54),
        ("backward", "GPT"): pytest.approx(90),
        ("backward", "Block"): pytest.approx(90),
        ("backward", "Attn"): pytest.approx(90),
    }


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
