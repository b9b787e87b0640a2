"""The compose file, as far as it can be checked without a Docker daemon; `compose_up.py` runs it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from fnmatch import fnmatch
from typing import Any

import pytest
import yaml

from tests.support.backend_programs import DEPLOY, REPOSITORY

TEXT = (DEPLOY / "compose.yaml").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
README = (DEPLOY / "README.md").read_text()
PINNED = re.compile(r"[a-z0-9.\-/]+:v?\d+\.\d+\.\d+(-[a-z-]+)?")


def environment(service: str) -> dict[str, str]:
    return SERVICES[service].get("environment", {})


@pytest.mark.skipif(
    shutil.which("docker-compose") is None,
    reason="Debian's package docker-compose is not installed",
)
@pytest.mark.parametrize("profiles", ["", "metrics", "tempo", "tempo,metrics"])
def test_old_docker_compose_takes_it(profiles: str) -> None:
    command = ["docker-compose", "-f", str(DEPLOY / "compose.yaml"), "config"]
    environ = {**os.environ, "COMPOSE_PROFILES": profiles}
    read = subprocess.run(command, env=environ, check=True, capture_output=True, text=True)
    services = yaml.safe_load(read.stdout)["services"]
    assert services["collector"]["environment"]["COMPOSE_PROFILES"] == profiles
    assert {name: service.get("profiles", []) for name, service in services.items()} == {
        "collector": [],
        "grafana": ["tempo"],
        "jaeger": [],
        "prometheus": ["metrics"],
        "tempo": ["tempo"],
        "train": [],
    }


def test_there_is_no_version_key() -> None:
    assert list(yaml.safe_load(TEXT)) == ["services", "volumes"]


def test_every_image_is_pinned() -> None:
    images = {name: service["image"] for name, service in SERVICES.items() if name != "train"}
    assert images == {
        "collector": "otel/opentelemetry-collector-contrib:0.159.0",
        "grafana": "grafana/grafana:13.1.0",
        "jaeger": "jaegertracing/jaeger:2.20.0",
        "prometheus": "prom/prometheus:v3.14.0",
        "tempo": "grafana/tempo:3.0.3",
    }
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    (base,) = re.findall(r"^ARG PYTHON_IMAGE=(\S+)$", dockerfile, re.MULTILINE)
    assert re.findall(r"^FROM (\S+)$", dockerfile, re.MULTILINE) == ["${PYTHON_IMAGE}"]
    assert PINNED.fullmatch(base)


def test_every_port_is_published_once_and_on_this_machine_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []
    published = [port.split(":")[1] for port in ports]
    assert len(set(published)) == len(published)


def test_every_mounted_file_is_there_and_every_volume_declared() -> None:
    declared = set(yaml.safe_load(TEXT)["volumes"])
    sources = [
        mount.split(":")[0] for service in SERVICES.values() for mount in service.get("volumes", [])
    ]
    files = [source for source in sources if source.startswith(".")]
    assert [source for source in files if not (DEPLOY / source).exists()] == []
    assert set(sources) - set(files) == declared


def test_every_variable_is_documented() -> None:
    used = set(re.findall(r"\$\{(\w+)", TEXT))
    assert used == {"COMPOSE_PROFILES", "STEPS", "TORCH_INDEX_URL"}
    assert [name for name in sorted(used) if f"`{name}`" not in README] == []


@pytest.mark.parametrize(
    ("service", "file"),
    [
        ("collector", "collector/compose.yaml"),
        ("jaeger", "jaeger/config.yaml"),
        ("tempo", "tempo/tempo.yaml"),
    ],
)
def test_every_variable_that_is_set_is_read(service: str, file: str) -> None:
    text = (DEPLOY / file).read_text()
    read = set(re.findall(r"\$\{(?:env:)?(\w+)", text))
    assert set(environment(service)) - read == set()


def test_whoever_sends_finds_who_listens() -> None:
    def listens(service: str, variable: str, port: str) -> bool:
        return environment(service)[variable] == f"0.0.0.0:{port}"

    assert environment("train")["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://collector:4317"
    assert listens("collector", "OTLP_GRPC_ENDPOINT", "4317")
    assert environment("collector")["JAEGER_ENDPOINT"] == "jaeger:4317"
    assert listens("jaeger", "JAEGER_OTLP_GRPC_ENDPOINT", "4317")
    assert environment("collector")["TEMPO_ENDPOINT"] == "tempo:4317"
    assert listens("tempo", "TEMPO_OTLP_GRPC_ENDPOINT", "4317")
    (targets,) = yaml.safe_load((DEPLOY / "prometheus/targets.yaml").read_text())
    assert targets["targets"] == ["collector:8889", "collector:8888"]
    assert listens("collector", "PROMETHEUS_EXPORTER_ENDPOINT", "8889")
    assert environment("collector")["METRICS_HOST"] == "0.0.0.0"
    assert environment("jaeger")["PROMETHEUS_URL"] == "http://prometheus:9090"
    assert environment("train")["JAEGER_UI_URL"] == "http://localhost:16686"
    assert listens("jaeger", "JAEGER_QUERY_HTTP_ENDPOINT", "16686")
    sources = (DEPLOY / "grafana/provisioning/datasources/datasources.yaml").read_text()
    used = set(re.findall(r"(?<!\$)\$\{(\w+)\}", sources))
    assert used == {name for name in environment("grafana") if name.endswith("_URL")}


def test_health_checks_ask_where_the_service_answers() -> None:
    checks = {
        name: service["healthcheck"]["test"][-1]
        for name, service in SERVICES.items()
        if "healthcheck" in service
    }
    assert checks == {
        "grafana": "http://127.0.0.1:3000/api/health",
        "jaeger": "http://127.0.0.1:14133/status",
        "prometheus": "http://127.0.0.1:9090/-/ready",
    }
    waiting = {
        (name, other)
        for name, service in SERVICES.items()
        for other, condition in service.get("depends_on", {}).items()
        if condition["condition"] == "service_healthy"
    }
    assert waiting == {("collector", "jaeger")}


def test_the_image_gets_what_it_copies_and_nothing_else() -> None:
    ignore = (REPOSITORY / ".dockerignore").read_text().splitlines()
    rules = [line for line in ignore if line and not line.startswith("#")]
    assert rules[0] == "*"
    let_in = [rule.removeprefix("!") for rule in rules if rule.startswith("!")]
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    copied = [
        source
        for line in re.findall(r"^COPY (.*) \S+$", dockerfile, re.MULTILINE)
        for source in line.split()
    ]
    assert sorted(copied) == sorted(let_in)
    assert [path for path in copied if not (REPOSITORY / path).exists()] == []
    assert any(fnmatch("otel_torch_modules/__pycache__", rule) for rule in rules[1:])


def test_a_change_of_code_does_not_install_torch_again() -> None:
    instructions = re.findall(
        r"^(?:COPY|RUN|USER) .*", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE
    )
    torch = next(i for i, line in enumerate(instructions) if line.endswith(" torch"))
    dependencies = next(i for i, line in enumerate(instructions) if "pyproject.toml" in line)
    code = next(i for i, line in enumerate(instructions) if "otel_torch_modules" in line)
    assert instructions[:torch] == [
        "RUN useradd --create-home --uid 10001 train",
        "COPY constraints.txt ./",
    ]
    assert torch < dependencies < code
    assert instructions[-1] == "USER train"


def test_the_command_of_the_job_is_json_that_compose_fills_in() -> None:
    command = SERVICES["train"]["command"]
    assert json.loads(json.dumps(command)) == [
        "demo",
        "--steps",
        "${STEPS:-20}",
        "--folder",
        "/tmp/traces",
    ]
    assert "/tmp" in SERVICES["train"]["tmpfs"]
