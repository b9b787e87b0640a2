"""No value that cannot be read costs metrics: they arrive at the real collector, over both protocols."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.metrics import scrape
from tests.support.backend_programs import free_ports
from tests.support.backend_servers import Collector
from tests.support.training_program import ENABLED, TRAIN, run

pytestmark = pytest.mark.backend

PREFIX = "OTEL_EXPORTER_OTLP_METRICS_"
ODD = {
    f"{PREFIX}TIMEOUT": "soon",
    f"{PREFIX}COMPRESSION": "zstd",
    f"{PREFIX}HEADERS": "s3cret",
    f"{PREFIX}CERTIFICATE": "/nowhere",
    f"{PREFIX}CLIENT_KEY": "/nowhere",
    f"{PREFIX}CLIENT_CERTIFICATE": "/nowhere",
    f"{PREFIX}INSECURE": "perhaps",
    f"{PREFIX}TEMPORALITY_PREFERENCE": "sometimes",
    f"{PREFIX}DEFAULT_HISTOGRAM_AGGREGATION": "none",
    "OTEL_EXPORTER_OTLP_TIMEOUT": "-1",
    "OTEL_EXPORTER_OTLP_COMPRESSION": "br",
    "OTEL_METRIC_EXPORT_INTERVAL": "often",
    "OTEL_METRIC_EXPORT_TIMEOUT": "0",
    "OTEL_METRICS_EXEMPLAR_FILTER": "best",
}
# What the standard exporter reads of its own, and ours does not.
UNREAD = {"OTEL_PYTHON_EXPORTER_OTLP_GRPC_RETRYABLE_ERROR_CODES": "all of them"}


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Collector, str]]:
    """The collector, and where it says what it has got."""
    shown = f"127.0.0.1:{free_ports(1)[0]}"
    folder = tmp_path_factory.mktemp("collector")
    with Collector(folder, "metrics.yaml", PROMETHEUS_EXPORTER_ENDPOINT=shown) as program:
        yield program, f"http://{shown}/metrics"


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_each_is_one_line_and_metrics_arrive(
    tmp_path: Path, collector: tuple[Collector, str], protocol: str
) -> None:
    program, shown = collector
    endpoint = f"http://{program.otlp_grpc}" if protocol == "grpc" else program.otlp_http
    done = run(
        tmp_path,
        TRAIN + "train(3)",
        **ENABLED,
        **ODD,
        **UNREAD,
        OTEL_SERVICE_NAME=protocol,
        OTEL_METRICS_EXPORTER="otlp",
        OTEL_EXPORTER_OTLP_METRICS_PROTOCOL=protocol,
        OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert sorted(line.partition(":")[0] for line in done.stderr.splitlines()) == sorted(ODD)
    assert "s3cret" not in done.stderr
    steps = [
        sample.value
        for sample in scrape(shown)
        if sample.name == "torch_steps_total" and sample.labels["service_name"] == protocol
    ]
    assert steps == [3]
