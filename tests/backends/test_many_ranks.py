"""The trace of a step of 64 ranks, through the real collector into the real Jaeger and back."""

from __future__ import annotations

import uuid

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from otel_torch_modules import Config
from otel_torch_modules._job.identity import step_ids
from tests.distributed.simulation import SimulatedRank, record_demo_step
from tests.support.backend_servers import Collector, Jaeger

pytestmark = [pytest.mark.backend, pytest.mark.slow]

RANKS = 64
SPANS_OF_A_RANK = 210


def test_a_step_of_64_ranks_is_read_back_whole(jaeger: Jaeger, collector: Collector) -> None:
    step = record_demo_step()
    config = Config(run_id=str(uuid.uuid4()))
    for number in range(RANKS):
        resource = Resource({"service.name": "many-ranks", "torch.distributed.rank": number})
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=collector.otlp_grpc, insecure=True)
        provider.add_span_processor(BatchSpanProcessor(exporter))
        SimulatedRank(number, step, provider, config, RANKS).send(0)
        provider.shutdown()
    ids = step_ids(f"{config.run_id}\x000.0\0{RANKS}\x000", 0)
    root = jaeger.query.wait_for_trace(f"{ids.trace_id:032x}", 1 + RANKS * SPANS_OF_A_RANK)
    assert root.name == "train.step"
    assert root.span_id == f"{ids.span_id:016x}"
    by_rank = sorted(root.children, key=lambda span: int(span.attributes["torch.distributed.rank"]))
    assert [span.name for span in by_rank] == [f"rank {number}" for number in range(RANKS)]
    assert [span.resource["torch.distributed.rank"] for span in by_rank] == list(range(RANKS))
    assert {tuple(span.outline()[1:]) for span in by_rank} == {tuple(by_rank[0].outline()[1:])}
