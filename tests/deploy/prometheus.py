"""A real Prometheus with the files that `deploy/` ships."""

from __future__ import annotations

import json
import shutil
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.support.backend_programs import DEPLOY, Program, find_on_path, free_ports
from tests.support.backend_servers import Collector, Jaeger
from tests.support.jaeger_query import poll


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
                "--enable-feature=exemplar-storage",
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

    def exemplars(self, selector: str, since: float) -> list[dict[str, Any]]:
        """Return the examples of the series that `selector` takes: `labels`, `value` and `timestamp`."""
        answer = get(
            f"{self.url}/api/v1/query_exemplars", query=selector, start=since, end=time.time() + 1
        )
        return [one for series in answer["data"] for one in series["exemplars"]]

    def wait_for(self, expression: str) -> None:
        """Wait until `expression` has a series."""
        poll(lambda: self.query(expression), lambda series: series != [], expression)

    @contextmanager
    def collector(self, folder: Path, jaeger: Jaeger, **variables: str) -> Iterator[Collector]:
        """Run the collector with metrics, which is scraped as to what it gets and what it is."""
        (port,) = free_ports(1)
        target = f"127.0.0.1:{port}"
        with Collector(
            folder,
            "metrics.yaml",
            JAEGER_ENDPOINT=jaeger.otlp_grpc,
            PROMETHEUS_EXPORTER_ENDPOINT=target,
            **variables,
        ) as running:
            own = running.metrics_url.removeprefix("http://").removesuffix("/metrics")
            self.scrape_from([target, own])
            yield running


def values(series: list[dict[str, Any]], *labels: str) -> dict[tuple[str, ...], float]:
    """Return what was asked by `query`, by the values of these labels."""
    return {
        tuple(one["metric"].get(label, "") for label in labels): float(one["value"][1])
        for one in series
    }


def get(url: str, **parameters: str | float) -> Any:
    with urllib.request.urlopen(
        f"{url}?{urllib.parse.urlencode(parameters)}", timeout=30
    ) as answer:
        return json.load(answer)
