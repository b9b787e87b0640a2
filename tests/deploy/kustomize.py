"""Renders a kustomization, as far as `deploy/` makes use of what kustomize can.

Where `kubectl` is at hand a test holds this equal to the real thing; where it is not, the other tests
run all the same. Config maps keep their plain names here, without the hash of their content.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

Resource = dict[str, Any]
NAMESPACED_BY_NOTHING = {"Namespace"}


def render(folder: Path) -> list[Resource]:
    """Return the resources of the kustomization in `folder`."""
    settings = yaml.safe_load((folder / "kustomization.yaml").read_text())
    known = {
        *("apiVersion", "kind", "namespace", "resources"),
        *("configMapGenerator", "images", "patches"),
    }
    assert set(settings) <= known, set(settings) - known
    resources: list[Resource] = []
    for entry in settings.get("resources", []):
        path = folder / entry
        resources += render(path.resolve()) if path.is_dir() else load_all(path)
    for generator in settings.get("configMapGenerator", []):
        resources.append(config_map(folder, generator))
    for patch in settings.get("patches", []):
        (change,) = load_all(folder / patch["path"])
        (target,) = [one for one in resources if identity(one) == identity(change)]
        merge(target, change)
    for resource in resources:
        if "namespace" in settings and resource["kind"] not in NAMESPACED_BY_NOTHING:
            resource["metadata"]["namespace"] = settings["namespace"]
        for container in containers(resource):
            for image in settings.get("images", []):
                if container["image"] == image["name"]:
                    container["image"] += f":{image['newTag']}"
    return resources


def load_all(path: Path) -> list[Resource]:
    return list(yaml.safe_load_all(path.read_text()))


def identity(resource: Resource) -> tuple[str, str]:
    return resource["kind"], resource["metadata"]["name"]


def config_map(folder: Path, generator: dict[str, Any]) -> Resource:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": generator["name"]},
        "data": {name: (folder / name).read_text() for name in generator["files"]},
    }


def merge(target: Any, change: Any) -> None:
    """Merge as a strategic merge patch does: maps by key, lists by the `name` of their items,
    those that change first."""
    for key, value in change.items():
        if isinstance(value, dict) and key in target:
            merge(target[key], value)
        elif isinstance(value, list) and key in target:
            for item in value:
                (same,) = [one for one in target[key] if one["name"] == item["name"]]
                merge(same, item)
                target[key].remove(same)
                target[key].insert(0, same)
        else:
            target[key] = value


def containers(resource: Resource) -> Iterator[dict[str, Any]]:
    """Yield the containers of a workload of any kind."""
    for template in pod_templates(resource):
        yield from template["spec"].get("initContainers", [])
        yield from template["spec"]["containers"]


def pod_templates(resource: Resource) -> list[dict[str, Any]]:
    spec = resource.get("spec", {})
    if resource["kind"] == "PyTorchJob":
        return [replicas["template"] for replicas in spec["pytorchReplicaSpecs"].values()]
    return [spec["template"]] if "template" in spec else []
