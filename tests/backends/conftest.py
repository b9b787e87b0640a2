"""A real Jaeger and a real collector in front of it, once for all tests of a run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.backend_servers import Collector, Jaeger


@pytest.fixture(scope="session")
def jaeger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jaeger]:
    with Jaeger(tmp_path_factory.mktemp("jaeger")) as running:
        yield running


@pytest.fixture(scope="session")
def collector(tmp_path_factory: pytest.TempPathFactory, jaeger: Jaeger) -> Iterator[Collector]:
    folder = tmp_path_factory.mktemp("collector")
    with Collector(folder, "jaeger.yaml", JAEGER_ENDPOINT=jaeger.otlp_grpc) as running:
        yield running
