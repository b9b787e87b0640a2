"""The Tempo files say what they must. There is no Tempo here: they are not run."""

from __future__ import annotations

import re
from typing import Any

import yaml

from tests.support.backend_programs import DEPLOY

VARIABLE = re.compile(r"\$\{\w+(?::-(?P<default>[^}]*))?\}")


def load(name: str) -> dict[str, Any]:
    """Return the configuration as Tempo sees it with no variable set."""
    text = (DEPLOY / "tempo" / name).read_text()
    return yaml.safe_load(VARIABLE.sub(lambda match: match["default"] or "", text))


def test_large_traces_pass_every_limit() -> None:
    tempo = load("tempo.yaml")
    largest = tempo["overrides"]["defaults"]["global"]["max_bytes_per_trace"]
    worker = tempo["querier"]["frontend_worker"]["grpc_client_config"]
    assert largest == 50_000_000
    assert [
        tempo["server"]["grpc_server_max_recv_msg_size"],
        tempo["server"]["grpc_server_max_send_msg_size"],
        worker["max_recv_msg_size"],
        worker["max_send_msg_size"],
    ] == [2 * 52_428_800] * 4
    assert tempo["overrides"]["defaults"]["ingestion"]["burst_size_bytes"] > largest


def test_no_metrics_and_no_service_graphs() -> None:
    tempo = load("tempo.yaml")
    assert "metrics_generator" not in tempo
    assert "metrics_generator" not in tempo["overrides"]["defaults"]


def test_only_the_storage_differs_with_s3() -> None:
    local, s3 = load("tempo.yaml"), load("tempo-s3.yaml")
    assert local.pop("storage")["trace"]["backend"] == "local"
    assert s3.pop("storage")["trace"]["backend"] == "s3"
    assert s3 == local


def test_it_listens_where_the_collector_sends() -> None:
    tempo = load("tempo.yaml")
    receiver = tempo["distributor"]["receivers"]["otlp"]["protocols"]["grpc"]
    for name in ("tempo.yaml", "jaeger-and-tempo.yaml"):
        collector = (DEPLOY / "collector" / name).read_text()
        assert f"${{env:TEMPO_ENDPOINT:-{receiver['endpoint']}}}" in collector
