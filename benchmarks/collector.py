"""A collector on this machine that takes spans and throws them away."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

_CONFIG = """
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:{port}", max_recv_msg_size_mib: 64}}}}}}}}
exporters: {{nop: {{}}}}
service:
  telemetry: {{metrics: {{level: none}}, logs: {{level: error}}}}
  pipelines: {{traces: {{receivers: [otlp], exporters: [nop]}}}}
"""


@contextlib.contextmanager
def local_collector() -> Iterator[bool]:
    """Have ``OTEL_EXPORTER_OTLP_ENDPOINT`` name a collector in the block; yield False where there is no program."""
    if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        yield True
        return
    program = Path(os.environ.get("OTEL_TORCH_MODULES_TEST_BACKENDS", ".backends")) / "otelcol"
    if not program.exists():
        yield False
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "collector.yaml"
        config.write_text(_CONFIG.format(port=port))
        with subprocess.Popen([program, "--config", config]) as process:
            try:
                _wait_for(port, process)
                os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{port}"
                yield True
            finally:
                os.environ.pop("OTEL_EXPORTER_OTLP_ENDPOINT", None)
                process.terminate()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
    raise RuntimeError(f"the collector ended with code {process.returncode}")
