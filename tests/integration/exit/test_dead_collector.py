"""A collector that does not answer holds the end of a process up for seconds, not for its time-out."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.training_program import ENABLED, TRAIN, run


@pytest.fixture(params=["closed port", "no answer"])
def dead_endpoint(request: pytest.FixtureRequest) -> Iterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if request.param == "no answer":
            listener.listen(16)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_a_program_ends_long_before_the_exporter_would_give_up(
    tmp_path: Path, dead_endpoint: str, protocol: str
) -> None:
    variables = {
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": dead_endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_TIMEOUT": "600",  # the program is given two minutes
    }
    done = run(tmp_path, f"{TRAIN}\ntrain(3)\nprint('trained')", **ENABLED, **variables)
    assert (done.returncode, done.stdout) == (0, "trained\n")
    assert "Traceback" not in done.stderr
