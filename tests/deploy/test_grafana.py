"""What Grafana is given fits together. There is no Grafana here: nothing of this is run."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from tests.deploy.traceql import check
from tests.support.backend_programs import DEPLOY

DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/training-steps.json").read_text())
PROVISIONING = DEPLOY / "grafana/provisioning"
SOURCES = yaml.safe_load((PROVISIONING / "datasources/datasources.yaml").read_text())["datasources"]
TARGETS = [(panel, target) for panel in DASHBOARD["panels"] for target in panel["targets"]]


def references(node: Any) -> list[tuple[str, str]]:
    """Return type and uid of every data source that is named below `node`."""
    if isinstance(node, list):
        return [found for item in node for found in references(item)]
    if not isinstance(node, dict):
        return []
    own = [(node["type"], node["uid"])] if set(node) == {"type", "uid"} else []
    return own + [found for item in node.values() for found in references(item)]


def test_every_data_source_that_is_named_is_there() -> None:
    known = {(source["type"], source["uid"]) for source in SOURCES}
    assert known == {("tempo", "tempo"), ("jaeger", "jaeger"), ("prometheus", "prometheus")}
    assert set(references(DASHBOARD)) == {("tempo", "tempo"), ("prometheus", "prometheus")}
    links = [source.get("jsonData", {}) for source in SOURCES]
    assert [
        link["tracesToMetrics"]["datasourceUid"] for link in links if "tracesToMetrics" in link
    ] == ["prometheus"]
    assert [
        destination["datasourceUid"]
        for link in links
        for destination in link.get("exemplarTraceIdDestinations", [])
    ] == ["tempo"]


def test_panels_do_not_overlap_and_have_ids_of_their_own() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert {x for x, _ in cells} == set(range(24))


@pytest.mark.parametrize(
    "query",
    [
        pytest.param(target["query"], id=panel["title"])
        for panel, target in TARGETS
        if target["datasource"]["type"] == "tempo"
    ],
)
def test_searches_are_traceql(query: str) -> None:
    assert "$service" in query
    check(query.replace("$service", "train").replace("$slower_than", "100ms"))


def test_every_variable_that_is_used_is_defined() -> None:
    names = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    text = json.dumps(DASHBOARD["panels"]).replace("$__rate_interval", "")
    used = {name for name in ("service", "beside", "slower_than") if f"${name}" in text}
    assert names == used
    assert text.count("$") == sum(text.count(f"${name}") for name in names)


def test_the_dashboard_lies_where_the_provider_looks() -> None:
    (provider,) = yaml.safe_load((PROVISIONING / "dashboards/dashboards.yaml").read_text())[
        "providers"
    ]
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    mounts = dict(
        mount.removesuffix(":ro").split(":") for mount in compose["services"]["grafana"]["volumes"]
    )
    assert mounts["./grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./grafana/provisioning"] == "/etc/grafana/provisioning"
