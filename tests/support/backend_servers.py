"""Jaeger and the collector, each started with a file that `deploy/` ships."""

from __future__ import annotations

from pathlib import Path

from tests.support.backend_programs import DEPLOY, Program, find, free_ports
from tests.support.jaeger_query import JaegerQuery


class Jaeger(Program):
    """Jaeger on free ports: `otlp_grpc` and `otlp_http` take spans, `query` gives them back."""

    def __init__(self, folder: Path, config: str = "config.yaml", **environ: str) -> None:
        program = find("jaeger")
        otlp_grpc, otlp_http, query, query_grpc, health, metrics = free_ports(6)
        self.otlp_grpc = f"127.0.0.1:{otlp_grpc}"
        self.otlp_http = f"http://127.0.0.1:{otlp_http}"
        self.url = f"http://127.0.0.1:{query}"
        self.query = JaegerQuery(self.url)
        super().__init__(
            [program, "--config", str(DEPLOY / "jaeger" / config)],
            {
                "JAEGER_OTLP_GRPC_ENDPOINT": self.otlp_grpc,
                "JAEGER_OTLP_HTTP_ENDPOINT": f"127.0.0.1:{otlp_http}",
                "JAEGER_QUERY_HTTP_ENDPOINT": f"127.0.0.1:{query}",
                "JAEGER_QUERY_GRPC_ENDPOINT": f"127.0.0.1:{query_grpc}",
                "JAEGER_HEALTH_ENDPOINT": f"127.0.0.1:{health}",
                "JAEGER_METRICS_PORT": str(metrics),
                **environ,
            },
            f"http://127.0.0.1:{health}/status",
            folder / "jaeger.log",
        )


class Collector(Program):
    """The collector on free ports, started with `deploy/collector/{config}` and `environ`."""

    def __init__(self, folder: Path, config: str, **environ: str) -> None:
        program = find("otelcol")
        otlp_grpc, otlp_http, health, metrics = free_ports(4)
        self.otlp_grpc = f"127.0.0.1:{otlp_grpc}"
        self.otlp_http = f"http://127.0.0.1:{otlp_http}"
        self.metrics_url = f"http://127.0.0.1:{metrics}/metrics"
        super().__init__(
            [program, "--config", str(DEPLOY / "collector" / config)],
            {
                "OTLP_GRPC_ENDPOINT": self.otlp_grpc,
                "OTLP_HTTP_ENDPOINT": f"127.0.0.1:{otlp_http}",
                "HEALTH_ENDPOINT": f"127.0.0.1:{health}",
                "METRICS_PORT": str(metrics),
                **environ,
            },
            f"http://127.0.0.1:{health}/",
            folder / f"collector-{otlp_grpc}.log",
        )
