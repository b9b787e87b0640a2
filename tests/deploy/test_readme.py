"""What `deploy/README.md` says can be copied, and names what there is."""

from __future__ import annotations

import re

import pytest

from tests.deploy.traceql import check
from tests.support.backend_programs import DEPLOY

README = (DEPLOY / "README.md").read_text()


def block(language: str) -> list[str]:
    (content,) = re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    return content.splitlines()


@pytest.mark.parametrize("query", block("traceql"))
def test_searches_are_traceql(query: str) -> None:
    check(query)


def test_every_file_that_is_named_is_there() -> None:
    named = re.findall(
        r"`((?:collector|jaeger|tempo|prometheus|grafana|kubernetes|deploy)/[\w./-]*)`", README
    )
    assert len(named) > 10
    missing = [name for name in named if not (DEPLOY / name.removeprefix("deploy/")).exists()]
    assert missing == []


def test_every_collector_file_is_named() -> None:
    files = {path.name for path in (DEPLOY / "collector").glob("*.yaml")}
    files -= {"kustomization.yaml", "compose.yaml"}
    assert [name for name in sorted(files) if f"collector/{name}`" not in README] == []


def test_every_variable_of_the_configurations_is_named() -> None:
    used = {
        name
        for folder in ("collector", "jaeger", "tempo")
        for path in (DEPLOY / folder).glob("*.yaml")
        for name in re.findall(r"\$\{(?:env:)?([A-Z]\w+)", path.read_text())
    }
    assert {"OTLP_TOKEN", "JAEGER_OTLP_GRPC_ENDPOINT", "TEMPO_RETENTION"} < used
    assert [name for name in sorted(used) if f"`{name}`" not in README] == []
