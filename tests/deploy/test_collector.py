"""The collector files of one machine, run by the real program: steps arrive whole, and what is added is there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import (
    OTLPSpanExporter as HttpSpanExporter,
)

from tests.deploy.metrics import Sample, scrape
from tests.deploy.steps import exporter_to, send, span_count, steps_until_now
from tests.support.backend_programs import free_ports
from tests.support.backend_servers import Collector, Jaeger
from tests.support.jaeger_query import StoredSpan, poll

pytestmark = pytest.mark.backend


@pytest.fixture(scope="module")
def tempo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jaeger]:
    """Stands for Tempo, which takes the same OTLP: a second Jaeger, so that what it got can be read."""
    with Jaeger(tmp_path_factory.mktemp("tempo")) as running:
        yield running


def outlines(traces: list[StoredSpan]) -> list[list[str]]:
    return [trace.outline() for trace in traces]


def test_jaeger_takes_a_step_of_a_large_model_in_one_request(
    tmp_path: Path, jaeger: Jaeger
) -> None:
    (step,) = steps_until_now("large", [2000], layers=5000)
    assert len(step.spans) == 20_006
    with Collector(tmp_path, "jaeger.yaml", JAEGER_ENDPOINT=jaeger.otlp_grpc) as collector:
        send(exporter_to(collector.otlp_grpc), [step])
        stored = jaeger.query.wait_for_trace(f"{step.trace_id:032x}", len(step.spans))
    assert stored.outline() == step.outline()


def test_tempo_alone(tmp_path: Path, tempo: Jaeger) -> None:
    steps = steps_until_now("tempo-alone", [10, 20])
    with Collector(tmp_path, "tempo.yaml", TEMPO_ENDPOINT=tempo.otlp_grpc) as collector:
        send(HttpSpanExporter(endpoint=f"{collector.otlp_http}/v1/traces"), steps)
        stored = tempo.query.wait_for_traces("tempo-alone", span_count(steps))
    assert outlines(stored) == [step.outline() for step in steps]


def test_jaeger_and_tempo_get_the_same(tmp_path: Path, jaeger: Jaeger, tempo: Jaeger) -> None:
    steps = steps_until_now("both", [10, 20], ranks=[10, 10])
    with Collector(
        tmp_path,
        "jaeger-and-tempo.yaml",
        JAEGER_ENDPOINT=jaeger.otlp_grpc,
        TEMPO_ENDPOINT=tempo.otlp_grpc,
    ) as collector:
        send(exporter_to(collector.otlp_grpc), steps)
        in_jaeger = jaeger.query.wait_for_traces("both", span_count(steps))
        in_tempo = tempo.query.wait_for_traces("both", span_count(steps))
    assert outlines(in_jaeger) == [step.outline() for step in steps]
    assert in_tempo == in_jaeger


def test_jaeger_gets_its_spans_while_tempo_is_down(tmp_path: Path, jaeger: Jaeger) -> None:
    steps = steps_until_now("tempo-down", [10, 20])
    nobody = f"127.0.0.1:{free_ports(1)[0]}"
    with Collector(
        tmp_path,
        "jaeger-and-tempo.yaml",
        JAEGER_ENDPOINT=jaeger.otlp_grpc,
        TEMPO_ENDPOINT=nobody,
    ) as collector:
        send(exporter_to(collector.otlp_grpc), steps)
        stored = jaeger.query.wait_for_traces("tempo-down", span_count(steps))
    assert outlines(stored) == [step.outline() for step in steps]


@pytest.mark.parametrize(
    ("profiles", "expected"),
    [("", False), ("metrics", False), ("metrics,tempo", True), ("tempo", True)],
)
def test_compose_feeds_tempo_only_with_its_profile(
    tmp_path: Path, jaeger: Jaeger, tempo: Jaeger, profiles: str, expected: bool
) -> None:
    service = f"compose-{profiles}"
    first, second = steps_until_now(service, [10, 20])
    with Collector(
        tmp_path,
        "compose.yaml",
        JAEGER_ENDPOINT=jaeger.otlp_grpc,
        TEMPO_ENDPOINT=tempo.otlp_grpc,
        COMPOSE_PROFILES=profiles,
        PROMETHEUS_EXPORTER_ENDPOINT=f"127.0.0.1:{free_ports(1)[0]}",
    ) as collector:
        send(exporter_to(collector.otlp_grpc), [first, second])
        stored = jaeger.query.wait_for_traces(service, span_count([first, second]))
    # Stopping the collector has emptied its queues.
    assert outlines(stored) == [first.outline(), second.outline()]
    in_tempo = tempo.query.traces(service)
    assert outlines(in_tempo) == ([first.outline(), second.outline()] if expected else [])


def test_metrics_count_every_span_under_the_allowed_labels(tmp_path: Path, jaeger: Jaeger) -> None:
    endpoint = f"127.0.0.1:{free_ports(1)[0]}"
    steps = steps_until_now("measured", [10, 40], layers=12, ranks=[10, 10, 10])
    with Collector(
        tmp_path,
        "metrics.yaml",
        JAEGER_ENDPOINT=jaeger.otlp_grpc,
        PROMETHEUS_EXPORTER_ENDPOINT=endpoint,
        METRICS_FLUSH_INTERVAL="100ms",
    ) as collector:
        send(exporter_to(collector.otlp_grpc), steps)
        samples = wait_for_calls(endpoint, span_count(steps))
        stored = jaeger.query.wait_for_traces("measured", span_count(steps))

    # The traces keep what the metrics leave out.
    assert outlines(stored) == [step.outline() for step in steps]

    calls = sorted(
        (
            sample.labels["span_name"],
            sample.labels["torch_phase"],
            sample.labels["span_kind"].removeprefix("SPAN_KIND_"),
            sample.labels.get("torch_module_class"),
            sample.labels.get("torch_module_fqn_pattern"),
            sample.value,
        )
        for sample in samples
        if sample.name == "traces_span_metrics_calls_total"
    )
    assert calls == sorted(
        [
            ("train.step", "step", "INTERNAL", None, None, 2),
            ("rank", "rank", "INTERNAL", None, None, 6),
            ("dataloader.next", "data", "INTERNAL", None, None, 6),
            ("backward", "backward", "INTERNAL", None, None, 6),
            ("optimizer.step AdamW", "optimizer", "INTERNAL", None, None, 6),
            ("forward GPT", "forward", "PRODUCER", "GPT", "GPT", 6),
            ("forward h.*", "forward", "PRODUCER", "Block", "GPT.h.*", 72),
            ("forward attn", "forward", "PRODUCER", "Attn", "GPT.h.*.attn", 72),
            ("backward GPT", "backward", "CONSUMER", "GPT", "GPT", 6),
            ("backward h.*", "backward", "CONSUMER", "Block", "GPT.h.*", 72),
            ("backward attn", "backward", "CONSUMER", "Attn", "GPT.h.*.attn", 72),
        ]
    )
    assert {label for sample in samples for label in sample.labels if is_ours(sample)} == {
        "collector_instance_id",
        "job",
        "le",
        "service_name",
        "span_kind",
        "span_name",
        "status_code",
        "torch_module_class",
        "torch_module_fqn_pattern",
        "torch_phase",
    }
    step_time = {
        sample.labels["le"]: sample.value
        for sample in samples
        if sample.name == "traces_span_metrics_duration_milliseconds_bucket"
        and sample.labels["torch_phase"] == "step"
    }
    assert [step_time[bound] for bound in ("5", "10", "25", "50", "+Inf")] == [
        0,
        1,
        1,
        2,
        2,
    ]


def is_ours(sample: Sample) -> bool:
    return sample.name.startswith("traces_span_metrics_")


def wait_for_calls(endpoint: str, calls: int) -> list[Sample]:
    def total(samples: list[Sample]) -> float:
        return sum(
            sample.value for sample in samples if sample.name == "traces_span_metrics_calls_total"
        )

    return poll(
        lambda: scrape(f"http://{endpoint}/metrics"),
        lambda samples: total(samples) >= calls,
        f"{calls} calls at {endpoint}",
    )


def test_tail_sampling_keeps_slow_and_failed_steps_whole(tmp_path: Path, jaeger: Jaeger) -> None:
    fast = steps_until_now("tail", [10, 99, 50])
    (slow,) = steps_until_now("tail", [101], ranks=[50, 101])
    (failed,) = steps_until_now("tail", [10], failed=True)
    with Collector(
        tmp_path,
        "tail-sampling.yaml",
        JAEGER_ENDPOINT=jaeger.otlp_grpc,
        DECISION_WAIT="1s",
        SLOW_STEP_MS="100",
        KEEP_PERCENT="0",
    ) as collector:
        exporter = exporter_to(collector.otlp_grpc)
        send(exporter, fast)
        # The ranks of a step send for themselves, and the span that makes it slow comes last.
        for half in (slow.spans[1:9], slow.spans[9:], slow.spans[:1]):
            exporter.export(half)
        send(exporter, [failed])
        stored_slow = jaeger.query.wait_for_trace(f"{slow.trace_id:032x}", len(slow.spans))
        stored_failed = jaeger.query.wait_for_trace(f"{failed.trace_id:032x}", len(failed.spans))
        wait_for_decisions(collector, 5)
    assert stored_slow.outline() == slow.outline()
    assert stored_failed.outline() == failed.outline()
    assert {trace.trace_id for trace in jaeger.query.traces("tail")} == {
        f"{step.trace_id:032x}" for step in (slow, failed)
    }


def test_tail_sampling_keeps_about_one_in_a_hundred(tmp_path: Path, jaeger: Jaeger) -> None:
    steps = steps_until_now("hundred", [10] * 1000, layers=1)
    by_id = {f"{step.trace_id:032x}": step for step in steps}
    with Collector(
        tmp_path,
        "tail-sampling.yaml",
        JAEGER_ENDPOINT=jaeger.otlp_grpc,
        DECISION_WAIT="1s",
        TAIL_SAMPLING_TRACES="2000",
    ) as collector:
        send(exporter_to(collector.otlp_grpc), steps)
        wait_for_decisions(collector, len(steps))
    kept = jaeger.query.traces("hundred")
    assert 0 < len(kept) < 40  # of 1 000 ids: 10, give or take 3
    assert outlines(kept) == [by_id[trace.trace_id].outline() for trace in kept]


def wait_for_decisions(collector: Collector, traces: int) -> None:
    poll(
        lambda: [
            sample
            for sample in scrape(collector.metrics_url)
            if sample.name.startswith("otelcol_processor_tail_sampling_global_count_traces_sampled")
        ],
        lambda samples: sum(sample.value for sample in samples) >= traces,
        f"decisions on {traces} traces",
    )
