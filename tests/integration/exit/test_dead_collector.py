"""A collector that does not answer holds the end of a process up for seconds, not for its time-out."""

from __future__ import annotations

from pathlib import Path

from tests.support.side_by_side import side_by_side
from tests.support.training_program import ENABLED, TRAIN, run


def test_a_program_ends_long_before_the_exporter_would_give_up(
    tmp_path: Path, dead_endpoint: str
) -> None:
    def ended(folder: Path, protocol: str) -> tuple[int, str]:
        variables = {
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": dead_endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            "OTEL_EXPORTER_OTLP_TIMEOUT": "600",  # the program is given two minutes
        }
        done = run(folder, f"{TRAIN}\ntrain(3)\nprint('trained')", **ENABLED, **variables)
        assert "Traceback" not in done.stderr, protocol
        return done.returncode, done.stdout

    protocols = ("grpc", "http/protobuf")
    assert side_by_side(tmp_path, ended, protocols) == dict.fromkeys(protocols, (0, "trained\n"))
