"""The Kubernetes files: against the published schemas, and whether they fit together. There is no cluster here."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.deploy.kustomize import Resource, containers, identity, pod_templates, render
from tests.support.backend_programs import DEPLOY

OVERLAYS = ["jaeger", "tempo"]
SCHEMA_VERSION = "1.30"
README = (DEPLOY / "README.md").read_text()
HASH = re.compile(r"-config-[a-z0-9]{10}$")


@pytest.fixture(params=OVERLAYS)
def resources(request: pytest.FixtureRequest) -> list[Resource]:
    return render(DEPLOY / "kubernetes/overlays" / request.param)


def of_kind(resources: list[Resource], kind: str) -> dict[str, Resource]:
    return {one["metadata"]["name"]: one for one in resources if one["kind"] == kind}


def workloads(resources: list[Resource]) -> list[Resource]:
    return [one for one in resources if pod_templates(one)]


def environment(container: dict[str, Any]) -> dict[str, str | None]:
    return {variable["name"]: variable.get("value") for variable in container.get("env", [])}


def quantity(text: str) -> int:
    """Return a quantity of memory in MiB."""
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", text).groups()  # type: ignore[union-attr]
    return int(number) * (1024 if unit == "Gi" else 1)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_there_is(overlay: str) -> None:
    backend = {
        "jaeger": [
            ("ConfigMap", "jaeger-config"),
            ("Service", "jaeger"),
            ("StatefulSet", "jaeger"),
        ],
        "tempo": [("ConfigMap", "tempo-config"), ("Service", "tempo"), ("StatefulSet", "tempo")],
    }[overlay]
    found = [identity(one) for one in render(DEPLOY / "kubernetes/overlays" / overlay)]
    assert sorted(found) == sorted(
        [
            ("ConfigMap", "otel-agent-config"),
            ("ConfigMap", "otel-gateway-config"),
            ("DaemonSet", "otel-agent"),
            ("Deployment", "otel-gateway"),
            ("Namespace", "training"),
            ("PyTorchJob", "train-gpt"),
            ("Service", "otel-agent"),
            ("Service", "otel-gateway"),
            *backend,
        ]
    )


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kustomize_renders_the_same(overlay: str) -> None:
    folder = DEPLOY / "kubernetes/overlays" / overlay
    rendered = subprocess.run(
        ["kubectl", "kustomize", str(folder)], check=True, capture_output=True, text=True
    )

    def without_hashes(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: without_hashes(value) for key, value in node.items()}
        if isinstance(node, list):
            return [without_hashes(item) for item in node]
        return HASH.sub("-config", node) if isinstance(node, str) else node

    real = without_hashes(list(yaml.safe_load_all(rendered.stdout)))
    assert sorted(real, key=identity) == sorted(render(folder), key=identity)


def test_schemas(resources: list[Resource]) -> None:
    for resource in resources:
        if resource["kind"] == "PyTorchJob":
            continue
        kubernetes_validate.validate(resource, SCHEMA_VERSION, strict=True)


def test_schema_of_the_jobs_pods(resources: list[Resource]) -> None:
    """The job's own kind is not in the published schemas; what it makes pods of is."""
    job = of_kind(resources, "PyTorchJob")["train-gpt"]
    assert job["apiVersion"] == "kubeflow.org/v1"
    assert set(job["spec"]) == {"elasticPolicy", "pytorchReplicaSpecs"}
    (worker,) = job["spec"]["pytorchReplicaSpecs"].values()
    assert set(worker) == {"replicas", "restartPolicy", "template"}
    policy = job["spec"]["elasticPolicy"]
    assert worker["replicas"] == policy["minReplicas"] == policy["maxReplicas"] == 2
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "worker", **worker["template"]["metadata"]},
        "spec": worker["template"]["spec"],
    }
    kubernetes_validate.validate(pod, SCHEMA_VERSION, strict=True)
    assert [one["name"] for one in worker["template"]["spec"]["containers"]] == ["pytorch"]


def test_the_configurations_are_the_files_and_not_copies(resources: list[Resource]) -> None:
    shipped = {
        path.name: path.read_text()
        for folder in ("collector", "jaeger", "tempo")
        for path in (DEPLOY / folder).glob("*.yaml")
    }
    maps = of_kind(resources, "ConfigMap")
    for config_map in maps.values():
        for key, content in config_map["data"].items():
            assert content == shipped[key]
    own = {path.name for path in (DEPLOY / "kubernetes").rglob("*.yaml")}
    assert own & {key for one in maps.values() for key in one["data"]} <= {
        "agent.yaml",
        "gateway.yaml",
    }
    for name in ("agent.yaml", "gateway.yaml"):
        assert "receivers:" not in (DEPLOY / "kubernetes/base" / name).read_text()


def test_references_resolve(resources: list[Resource]) -> None:
    maps = of_kind(resources, "ConfigMap")
    for resource in workloads(resources):
        for template in pod_templates(resource):
            claims = [
                one["metadata"]["name"] for one in resource["spec"].get("volumeClaimTemplates", [])
            ]
            volumes = {one["name"]: one for one in template["spec"].get("volumes", [])}
            for container in template["spec"]["containers"]:
                mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
                assert set(mounts) == set(volumes) | set(claims)
                for name, volume in volumes.items():
                    if "configMap" not in volume:
                        continue
                    keys = maps[volume["configMap"]["name"]]["data"]
                    files = [f"{mounts[name]}/{key}" for key in keys]
                    used = [argument.split("=")[-1] for argument in container["args"]]
                    assert [argument for argument in used if argument.startswith("/etc")] == files


def test_services_lead_to_ports_that_are_listened_on(resources: list[Resource]) -> None:
    pods = [template for resource in workloads(resources) for template in pod_templates(resource)]
    for service in of_kind(resources, "Service").values():
        selector = service["spec"]["selector"].items()
        (pod,) = [one for one in pods if selector <= one["metadata"]["labels"].items()]
        (container,) = pod["spec"]["containers"]
        ports = {one["name"]: one["containerPort"] for one in container["ports"]}
        for port in service["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"]
        listening = {
            int(value.rsplit(":", 1)[1])
            for value in environment(container).values()
            if value is not None and value.startswith("0.0.0.0:")
        }
        assert ports["otlp-grpc"] in listening


def test_everyone_sends_to_a_service_that_is_there(resources: list[Resource]) -> None:
    services = of_kind(resources, "Service")

    def port_of(service: str) -> int:
        return services[service]["spec"]["ports"][0]["port"]

    agent, gateway, job = (
        environment(next(containers(of_kind(resources, kind)[name])))
        for kind, name in [
            ("DaemonSet", "otel-agent"),
            ("Deployment", "otel-gateway"),
            ("PyTorchJob", "train-gpt"),
        ]
    )
    namespace = of_kind(resources, "Service")["otel-agent"]["metadata"]["namespace"]
    endpoint = f"https://otel-agent.{namespace}.svc:{port_of('otel-agent')}"
    assert job["OTEL_EXPORTER_OTLP_ENDPOINT"] == endpoint
    assert yaml.safe_load(agent["GATEWAY_RESOLVER"] or "") == {"dns": {"hostname": "otel-gateway"}}
    assert services["otel-gateway"]["spec"]["clusterIP"] == "None"
    assert port_of("otel-gateway") == 4317  # what the resolver takes where no port is given
    assert services["otel-agent"]["spec"]["internalTrafficPolicy"] == "Local"
    backend, port = (gateway["BACKEND_ENDPOINT"] or "").split(":")
    assert int(port) == port_of(backend)


def test_every_variable_that_is_set_is_read(resources: list[Resource]) -> None:
    maps = of_kind(resources, "ConfigMap")
    for resource in workloads(resources):
        if resource["kind"] == "PyTorchJob":
            continue
        (container,) = containers(resource)
        (content,) = maps[f"{resource['metadata']['name']}-config"]["data"].values()
        read = set(re.findall(r"\$\{(?:env:)?(\w+)", content))
        assert set(environment(container)) - read == set()


def test_secrets_are_documented(resources: list[Resource]) -> None:
    text = yaml.safe_dump_all(resources)
    secrets = set(re.findall(r"secretName: (\S+)", text))
    secrets |= set(re.findall(r"(?:secretKeyRef:\n\s+key: \S+|secretRef:)\n\s+name: (\S+)", text))
    assert {"otel-agent-tls", "otel-agent-token"} <= secrets
    for secret in secrets:
        assert f"secret generic {secret}" in README, secret


def test_pods_are_held_short(resources: list[Resource]) -> None:
    for resource in workloads(resources):
        (template,) = pod_templates(resource)
        assert template["spec"]["automountServiceAccountToken"] is False
        assert template["spec"]["securityContext"]["runAsNonRoot"] is True
        assert template["spec"]["securityContext"]["runAsUser"] > 0
        for container in containers(resource):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert set(container["resources"]["requests"]) >= {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]
            assert re.fullmatch(r"[a-z0-9/.\-]+:\d+\.\d+\.\d+", container["image"])
            if resource["kind"] != "PyTorchJob":
                ports = {port["name"] for port in container["ports"]}
                for probe in ("readinessProbe", "livenessProbe"):
                    (asked,) = [
                        value["port"]
                        for key, value in container[probe].items()
                        if key in ("httpGet", "tcpSocket")
                    ]
                    assert asked in ports


def test_the_collectors_limit_is_below_the_pods(resources: list[Resource]) -> None:
    for resource in workloads(resources):
        for container in containers(resource):
            limit = environment(container).get("MEMORY_LIMIT_MIB")
            if limit is not None:
                assert int(limit) <= 0.8 * quantity(container["resources"]["limits"]["memory"])


def test_the_images_are_those_of_compose(resources: list[Resource]) -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"].values()
    of_compose = {service["image"] for service in services}
    here = {container["image"] for one in resources for container in containers(one)}
    assert here - of_compose == {"otel-torch-modules-train:0.1.0"}


def test_resource_attributes_name_the_pod() -> None:
    job = yaml.safe_load((DEPLOY / "kubernetes/base/job.yaml").read_text())
    (container,) = containers(job)
    names = list(environment(container))
    attributes = dict(
        pair.split("=")
        for pair in (environment(container)["OTEL_RESOURCE_ATTRIBUTES"] or "").split(",")
    )
    assert attributes == {
        "k8s.pod.name": "$(POD_NAME)",
        "k8s.pod.uid": "$(POD_UID)",
        "k8s.namespace.name": "$(POD_NAMESPACE)",
        "k8s.node.name": "$(NODE_NAME)",
    }
    # Kubernetes fills in only what stands before.
    for name in ("POD_NAME", "POD_UID", "POD_NAMESPACE", "NODE_NAME"):
        assert names.index(name) < names.index("OTEL_RESOURCE_ATTRIBUTES")
    assert names.index("OTLP_TOKEN") < names.index("OTEL_EXPORTER_OTLP_HEADERS")
    assert Path(container["command"][1]).name == "train_gpt.py"
