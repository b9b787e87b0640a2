"""A collector that does not answer holds the end of a process up for seconds, not for its time-out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.training_program import ENABLED, TRAIN, run


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
