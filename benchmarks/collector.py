"""A collector on this machine that takes spans, counts them and throws them away."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.deploy.metrics import scrape
from tests.support.backend_programs import Program, find, free_ports

_CONFIG = """
extensions: {{health_check: {{endpoint: "127.0.0.1:{health}"}}}}
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:{grpc}", max_recv_msg_size_mib: 64}}}}}}}}
exporters: {{nop: {{}}}}
service:
  extensions: [health_check]
  pipelines: {{traces: {{receivers: [otlp], exporters: [nop]}}}}
  telemetry:
    logs: {{level: error}}
    metrics: {{readers: [{{pull: {{exporter: {{prometheus: {{host: 127.0.0.1, port: {metrics}}}}}}}}}]}}
"""
_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_ARRIVAL_LIMIT_S = 120
_MORE = 1.1  # times; long stretches between phases and collections of garbage are shown too


class ProgramMissingError(SystemExit):
    """What a benchmark needs is not on this machine; one that runs by itself ends with the message."""


class Sink:
    """The running collector."""

    def __init__(self, metrics_url: str) -> None:
        self._metrics_url = metrics_url

    def accepted(self) -> int:
        """Return how many spans have arrived so far."""
        return accepted_spans(self._metrics_url)

    def wait_for(self, spans: int) -> None:
        """Return as soon as `spans` spans have arrived in all.

        Raises:
            AssertionError: they have not after two minutes, or many more have: it is not what was meant.
        """
        deadline = time.monotonic() + _ARRIVAL_LIMIT_S
        while (found := self.accepted()) < spans and time.monotonic() < deadline:
            time.sleep(0.02)
        if not spans <= found <= spans * _MORE:
            raise AssertionError(f"{found} spans have arrived, {spans} were made")


def accepted_spans(metrics_url: str) -> int:
    """Return how many spans the collector with these metrics has taken."""
    name = "otelcol_receiver_accepted_spans"
    return round(sum(found.value for found in scrape(metrics_url) if found.name.startswith(name)))


class FileSink(Sink):
    """The file of `otlp_file`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = self._found = 0

    def accepted(self) -> int:
        """Return how many spans are in the file so far."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._read)
                new = file.read()
            self._read += len(new)
            self._found += new.count(b'"startTimeUnixNano"')
        return self._found


@contextmanager
def exporting_to(endpoint: str) -> Iterator[None]:
    """Have ``OTEL_EXPORTER_OTLP_ENDPOINT`` name `endpoint` in the block."""
    with _variables({_ENDPOINT: endpoint}):
        yield


@contextmanager
def _variables(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def local_file() -> Iterator[FileSink]:
    """Have spans go to a file in the block."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "traces.jsonl"
        names = {"OTEL_TRACES_EXPORTER": "otlp_file", "OTEL_TORCH_MODULES_FILE": str(path)}
        with _variables(names):
            yield FileSink(path)


@contextmanager
def local_collector() -> Iterator[Sink]:
    """Run a collector and have ``OTEL_EXPORTER_OTLP_ENDPOINT`` name it in the block; exit where there is no program."""
    with backends_or_exit():
        program = find("otelcol")
    grpc, health, metrics = free_ports(3)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "collector.yaml"
        config.write_text(_CONFIG.format(grpc=grpc, health=health, metrics=metrics))
        with (
            Program(
                [program, "--config", str(config)],
                {},
                f"http://127.0.0.1:{health}/",
                Path(folder) / "collector.log",
            ),
            exporting_to(f"http://127.0.0.1:{grpc}"),
        ):
            yield Sink(f"http://127.0.0.1:{metrics}/metrics")


@contextmanager
def backends_or_exit() -> Iterator[None]:
    """What would skip a test ends a benchmark, with the same message."""
    try:
        yield
    except pytest.skip.Exception as missing:
        raise ProgramMissingError(str(missing)) from None
