"""Jaeger on disk: traces outlive a restart, and go after their time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.deploy.steps import exporter_to, send, steps_until_now
from tests.support.backend_servers import Jaeger
from tests.support.jaeger_query import poll

pytestmark = pytest.mark.backend


def test_traces_outlive_a_restart(tmp_path: Path) -> None:
    (step,) = steps_until_now("disk", [2000], layers=5000)
    trace_id = f"{step.trace_id:032x}"
    data = str(tmp_path / "data")
    with Jaeger(tmp_path, "config-badger.yaml", JAEGER_DATA_DIRECTORY=data) as jaeger:
        send(exporter_to(jaeger.otlp_grpc), [step])
        before = jaeger.query.wait_for_trace(trace_id, len(step.spans))
        jaeger.stop()
        jaeger.start()
        (after,) = jaeger.query.roots(trace_id)
    assert before.outline() == step.outline()
    assert after == before


def test_traces_go_after_their_time(tmp_path: Path) -> None:
    (step,) = steps_until_now("gone", [10])
    trace_id = f"{step.trace_id:032x}"
    with Jaeger(
        tmp_path,
        "config-badger.yaml",
        JAEGER_DATA_DIRECTORY=str(tmp_path / "data"),
        JAEGER_TIME_TO_LIVE="3s",
    ) as jaeger:
        send(exporter_to(jaeger.otlp_grpc), [step])
        jaeger.query.wait_for_trace(trace_id, len(step.spans))
        poll(lambda: jaeger.query.roots(trace_id), lambda found: found == [], "end of the trace")
