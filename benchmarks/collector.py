"""Where spans go: a collector on this machine that counts them and throws them away, or a file."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TextIO

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter

from benchmarks.enough import Enough
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
_START = re.compile(rb'"start(?:TimeUnixNano|_time)"')  # ours, and the SDK's exporter to a file
_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_ARRIVAL_LIMIT_S = 120
_MORE = 1.1  # times; long stretches between phases and collections of garbage are shown too


class ProgramMissingError(SystemExit):
    """What a benchmark needs is not on this machine; one that runs by itself ends with the message."""


class Sink:
    """The running collector."""

    fate = "exported"
    """What becomes of spans that go here."""

    def __init__(self, metrics_url: str) -> None:
        self._metrics_url = metrics_url

    def accepted(self) -> int:
        """Return how many spans have arrived so far."""
        return accepted_spans(self._metrics_url)

    def standard_exporter(self) -> SpanExporter:
        """Return the SDK's own exporter to the same place."""
        return OTLPSpanExporter(insecure=True)

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

    fate = "written to a file"

    def __init__(self, path: Path, appended: TextIO) -> None:
        self._path = path
        self._appended = appended
        self._read = self._found = 0

    def accepted(self) -> int:
        """Return how many spans are in the file so far."""
        with self._path.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        self._read += len(new)
        self._found += len(_START.findall(new))
        return self._found

    def standard_exporter(self) -> SpanExporter:
        """Return the SDK's own exporter to the same file."""
        return ConsoleSpanExporter(out=self._appended)


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
        with path.open("a") as appended, _variables(names):
            yield FileSink(path, appended)


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


def destination(enough: Enough) -> AbstractContextManager[Sink]:
    """Have spans go to a collector in the block, or to a file where there is less time for the same.

    A collector is a program of its own. Where another already has one processor of two, what it takes of the second
    changes from one moment to the next, and little is known after a quick run.
    """
    return local_collector() if enough.thorough else local_file()


@contextmanager
def backends_or_exit() -> Iterator[None]:
    """What would skip a test ends a benchmark, with the same message."""
    try:
        yield
    except pytest.skip.Exception as missing:
        raise ProgramMissingError(str(missing)) from None
