"""Agents in front of gateways: who may send, who gets which trace, and what survives a kill."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import (
    OTLPSpanExporter as HttpSpanExporter,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SpanExportResult

from otel_torch_modules import semconv
from tests.deploy.metrics import Sample, scrape
from tests.deploy.steps import Step, send, span_count, steps_until_now
from tests.support.backend_programs import find_on_path, free_ports
from tests.support.backend_servers import Collector, Jaeger
from tests.support.jaeger_query import poll

pytestmark = pytest.mark.backend

TOKEN = "0123456789abcdef"
KEEP_ALL = {"DECISION_WAIT": "500ms", "KEEP_PERCENT": "100"}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `tls.crt` and `tls.key`, made as `agent.yaml` says."""
    folder = tmp_path_factory.mktemp("tls")
    command = (
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 "
        "-subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 "
        "-keyout tls.key -out tls.crt"
    )
    openssl = find_on_path("openssl", "openssl")
    subprocess.run([openssl, *command.split()], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def running() -> Iterator[ExitStack]:
    """What a test starts; all of it is stopped when the test ends, the last one first."""
    with ExitStack() as stack:
        yield stack


def folder_in(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir()
    return folder


def start_agent(folder: Path, certificate: Path, gateways: list[str]) -> Collector:
    return Collector(
        folder,
        "agent.yaml",
        OTLP_TOKEN=TOKEN,
        TLS_CERT_FILE=str(certificate / "tls.crt"),
        TLS_KEY_FILE=str(certificate / "tls.key"),
        QUEUE_DIRECTORY=str(folder / "queue"),
        GATEWAY_RESOLVER=f"static: {{hostnames: [{', '.join(gateways)}]}}",
    )


def start_gateway(folder: Path, jaeger: Jaeger, offers: str = "127.0.0.1:0") -> Collector:
    return Collector(
        folder,
        "gateway.yaml",
        BACKEND_ENDPOINT=jaeger.otlp_grpc,
        QUEUE_DIRECTORY=str(folder / "queue"),
        PROMETHEUS_EXPORTER_ENDPOINT=offers,
        **KEEP_ALL,
    )


def client(agent: Collector, certificate: Path, **headers: str) -> OTLPSpanExporter:
    credentials = grpc.ssl_channel_credentials((certificate / "tls.crt").read_bytes())
    return OTLPSpanExporter(
        endpoint=agent.otlp_grpc, credentials=credentials, headers=headers, timeout=10
    )


def http_client(agent: Collector, certificate: Path, **headers: str) -> HttpSpanExporter:
    return HttpSpanExporter(
        endpoint=agent.otlp_http.replace("http:", "https:") + "/v1/traces",
        certificate_file=str(certificate / "tls.crt"),
        headers=headers,
        timeout=10,
    )


BEARER = {"authorization": f"Bearer {TOKEN}"}


def ids(steps: list[Step]) -> list[str]:
    return [f"{step.trace_id:032x}" for step in steps]


def test_a_client_without_the_token_is_refused_and_nothing_is_stored(
    tmp_path: Path,
    running: ExitStack,
    certificate: Path,
    jaeger: Jaeger,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # In `requests` a bundle that the environment names goes before the certificate that is handed over.
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    gateway = running.enter_context(start_gateway(folder_in(tmp_path, "gateway"), jaeger))
    agent = running.enter_context(
        start_agent(folder_in(tmp_path, "agent"), certificate, [gateway.otlp_grpc])
    )
    refused = steps_until_now("token", [10, 10, 10, 10])
    taken = steps_until_now("token", [10, 10])
    strangers = [
        client(agent, certificate),
        client(agent, certificate, authorization="Bearer wrong"),
        http_client(agent, certificate),
        http_client(agent, certificate, authorization="Bearer wrong"),
    ]

    results = [
        stranger.export(step.spans) for stranger, step in zip(strangers, refused, strict=True)
    ]
    send(client(agent, certificate, **BEARER), taken[:1])
    send(http_client(agent, certificate, **BEARER), taken[1:])
    stored = jaeger.query.wait_for_traces("token", span_count(taken))
    running.close()

    assert results == [SpanExportResult.FAILURE] * 4
    assert [trace.trace_id for trace in stored] == ids(taken)
    assert [trace.trace_id for trace in jaeger.query.traces("token")] == ids(taken)


def test_two_gateways_each_get_whole_traces(
    tmp_path: Path, running: ExitStack, certificate: Path, jaeger: Jaeger
) -> None:
    """The ranks of a step are on two nodes, each with its agent."""
    other = running.enter_context(Jaeger(folder_in(tmp_path, "jaeger")))
    gateways = [
        running.enter_context(start_gateway(folder_in(tmp_path, "gateway-0"), jaeger)),
        running.enter_context(start_gateway(folder_in(tmp_path, "gateway-1"), other)),
    ]
    addresses = [gateway.otlp_grpc for gateway in gateways]
    agents = [
        running.enter_context(start_agent(folder_in(tmp_path, name), certificate, addresses))
        for name in ("agent-0", "agent-1")
    ]
    exporters = [client(agent, certificate, **BEARER) for agent in agents]
    steps = steps_until_now("two", [10] * 40, ranks=[10, 10])

    for step in steps:
        half = len(step.spans) // 2
        exporters[0].export(step.spans[:half])
        exporters[1].export(step.spans[half:])
    poll(
        lambda: jaeger.query.traces("two") + other.query.traces("two"),
        lambda found: sum(len(trace.outline()) for trace in found) >= span_count(steps),
        "all spans in one or the other",
    )

    stored = jaeger.query.traces("two")
    stored_by_other = other.query.traces("two")
    assert sorted(trace.trace_id for trace in stored + stored_by_other) == sorted(ids(steps))
    assert [trace.outline() for trace in stored + stored_by_other] == [steps[0].outline()] * 40
    assert min(len(stored), len(stored_by_other)) >= 5  # of 40: both work


def tell(agent: Collector, certificate: Path, rank: int, steps: int) -> None:
    """Send the metrics of a process that has made so many steps, more than once."""
    credentials = grpc.ssl_channel_credentials((certificate / "tls.crt").read_bytes())
    exporter = OTLPMetricExporter(
        endpoint=agent.otlp_grpc, credentials=credentials, headers=BEARER, timeout=10
    )
    provider = MeterProvider(
        [PeriodicExportingMetricReader(exporter)],
        Resource({"service.name": "told · rank", semconv.DISTRIBUTED_RANK: rank}),
    )
    counter = provider.get_meter("test").create_counter(semconv.METRIC_STEPS)
    for _ in range(steps):
        counter.add(1)
        assert provider.force_flush(10_000)
    provider.shutdown()


def test_the_metrics_of_a_process_are_offered_by_one_gateway(
    tmp_path: Path, running: ExitStack, certificate: Path, jaeger: Jaeger
) -> None:
    offers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    gateways = [
        running.enter_context(start_gateway(folder_in(tmp_path, f"gateway-{at}"), jaeger, offered))
        for at, offered in enumerate(offers)
    ]
    addresses = [gateway.otlp_grpc for gateway in gateways]
    agent = running.enter_context(start_agent(folder_in(tmp_path, "agent"), certificate, addresses))
    for rank in range(8):
        tell(agent, certificate, rank, steps=rank + 1)

    def offered_by(offered: str) -> list[Sample]:
        samples = scrape(f"http://{offered}/metrics")
        return [sample for sample in samples if sample.name == "torch_steps_total"]

    found = poll(
        lambda: [sample for offered in offers for sample in offered_by(offered)],
        lambda samples: sum(sample.value for sample in samples) >= 36,
        "all steps",
    )
    assert {sample.labels["service_name"] for sample in found} == {"told"}
    by_rank = sorted(
        (int(sample.labels["torch_distributed_rank"]), sample.value) for sample in found
    )
    assert by_rank == [(rank, rank + 1) for rank in range(8)]
    assert all(map(offered_by, offers))  # of 8: both work


def queued_spans(collector: Collector) -> int:
    return int(
        sum(
            sample.value
            for sample in scrape(collector.metrics_url)
            if sample.name == "otelcol_exporter_queue_size"
        )
    )


def test_nothing_is_lost_when_gateway_and_agent_are_killed(
    tmp_path: Path, running: ExitStack, certificate: Path, jaeger: Jaeger
) -> None:
    gateway = running.enter_context(start_gateway(folder_in(tmp_path, "gateway"), jaeger))
    agent = running.enter_context(
        start_agent(folder_in(tmp_path, "agent"), certificate, [gateway.otlp_grpc])
    )
    before, during, after = (steps_until_now("killed", [10] * 5) for _ in range(3))

    send(client(agent, certificate, **BEARER), before)
    jaeger.query.wait_for_traces("killed", span_count(before))
    gateway.kill()
    send(client(agent, certificate, **BEARER), during)
    agent.kill()
    agent.start()
    send(client(agent, certificate, **BEARER), after)
    gateway.start()
    stored = jaeger.query.wait_for_traces("killed", span_count(before + during + after))

    assert sorted(trace.trace_id for trace in stored) == sorted(ids(before + during + after))
    assert [trace.outline() for trace in stored] == [before[0].outline()] * 15


def test_nothing_is_lost_while_the_backend_is_down(
    tmp_path: Path, running: ExitStack, certificate: Path
) -> None:
    """Jaeger on disk is killed; the gateway decides meanwhile, and is killed too."""
    data = str(tmp_path / "data")
    jaeger = running.enter_context(
        Jaeger(folder_in(tmp_path, "jaeger"), "config-badger.yaml", JAEGER_DATA_DIRECTORY=data)
    )
    gateway = running.enter_context(start_gateway(folder_in(tmp_path, "gateway"), jaeger))
    agent = running.enter_context(
        start_agent(folder_in(tmp_path, "agent"), certificate, [gateway.otlp_grpc])
    )
    before, during, after = (steps_until_now("down", [10] * 5) for _ in range(3))

    send(client(agent, certificate, **BEARER), before)
    jaeger.query.wait_for_traces("down", span_count(before))
    jaeger.stop()
    send(client(agent, certificate, **BEARER), during)
    poll(
        lambda: [queued_spans(gateway)],
        lambda queued: queued[0] >= span_count(during),
        "decided and queued",
    )
    gateway.kill()
    gateway.start()
    jaeger.start()
    send(client(agent, certificate, **BEARER), after)
    stored = jaeger.query.wait_for_traces("down", span_count(before + during + after))

    assert sorted(trace.trace_id for trace in stored) == sorted(ids(before + during + after))
    assert [trace.outline() for trace in stored] == [before[0].outline()] * 15


def wait_for_failures(agent: Collector, failures: int) -> None:
    """Wait until the agent has tried in vain, and tried again."""
    poll(
        lambda: [
            sample
            for sample in scrape(agent.metrics_url)
            if sample.name.startswith("otelcol_loadbalancer_backend_outcome")
            and sample.labels["success"] == "false"
        ],
        lambda samples: sum(sample.value for sample in samples) >= failures,
        f"{failures} failures",
    )


def test_one_gateway_down_delays_its_traces_and_doubles_none(
    tmp_path: Path, running: ExitStack, certificate: Path, jaeger: Jaeger
) -> None:
    gateways = [
        running.enter_context(start_gateway(folder_in(tmp_path, "gateway-0"), jaeger)),
        running.enter_context(start_gateway(folder_in(tmp_path, "gateway-1"), jaeger)),
    ]
    addresses = [gateway.otlp_grpc for gateway in gateways]
    agent = running.enter_context(start_agent(folder_in(tmp_path, "agent"), certificate, addresses))
    steps = steps_until_now("half", [10] * 20)
    gateways[1].kill()
    # One request, so that one batch has traces for both.
    together = [span for step in steps for span in step.spans]
    assert client(agent, certificate, **BEARER).export(together) is SpanExportResult.SUCCESS
    wait_for_failures(agent, 2)
    gateways[1].start()
    stored = jaeger.query.wait_for_traces("half", span_count(steps))
    running.close()

    assert sorted(trace.trace_id for trace in stored) == sorted(ids(steps))
    assert [trace.outline() for trace in jaeger.query.traces("half")] == [steps[0].outline()] * 20
