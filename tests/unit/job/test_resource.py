"""What a process says about its place in a job."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from uuid import UUID

import pytest
import torch
from opentelemetry.sdk.resources import Resource
from torch import distributed

from otel_torch_modules._job import launchers
from otel_torch_modules._job.resource import build_resource
from otel_torch_modules._job.resource_detector import TorchDistributedResourceDetector

TORCHRUN = {
    "RANK": "5",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "8",
    "GROUP_RANK": "2",
    "TORCHELASTIC_RUN_ID": "night",
}
VARIABLES = {
    name
    for row in (*launchers.RANK_VARIABLES, *launchers.RUN_VARIABLES)
    for name in (row.names if isinstance(row, launchers.RunVariables) else row[1:4])
} | {"GROUP_RANK", "SLURM_NODEID", "OTEL_TORCH_MODULES_RUN_ID"}


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    store = distributed.FileStore(str(tmp_path / "store"), 1)  # type: ignore[attr-defined]
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def detect() -> dict[str, object]:
    return dict(TorchDistributedResourceDetector().detect().attributes)


def this_process() -> dict[str, object]:
    found = detect()
    assert UUID(str(found["service.instance.id"])).version == 4
    return {
        "host.name": socket.gethostname(),
        "process.pid": os.getpid(),
        "service.instance.id": found["service.instance.id"],
        "torch.version": version("torch"),
    }


def test_a_process_alone_has_no_rank() -> None:
    assert not torch.accelerator.is_available()
    assert detect() == this_process()


def test_what_torchrun_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    assert detect() == {
        **this_process(),
        "torch.distributed.rank": 5,
        "torch.distributed.local_rank": 1,
        "torch.distributed.world_size": 8,
        "torch.distributed.node_rank": 2,
        "torch.distributed.run_id": "night",
    }


@pytest.mark.usefixtures("process_group")
def test_the_process_group_knows_better_than_a_launcher_of_nodes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SLURM_PROCID", "3")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    monkeypatch.setenv("SLURM_LOCALID", "0")
    monkeypatch.setenv("OTEL_TORCH_MODULES_RUN_ID", "night")
    assert detect() == {
        **this_process(),
        "torch.distributed.rank": 0,
        "torch.distributed.world_size": 1,
        "torch.distributed.run_id": "night",
    }


def test_a_process_keeps_its_instance_id_and_a_forked_child_has_another() -> None:
    first = detect()["service.instance.id"]
    assert detect()["service.instance.id"] == first
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, str(detect()["service.instance.id"]).encode())
        os._exit(0)
    os.waitpid(child, 0)
    of_child = os.read(reading, 100).decode()
    os.close(reading)
    os.close(writing)
    assert UUID(of_child) != UUID(str(first))


def test_the_sdk_finds_it_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "torch_distributed")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    attributes = Resource.create().attributes
    assert (attributes["torch.distributed.rank"], attributes["torch.distributed.world_size"]) == (
        1,
        2,
    )


def test_texts_that_are_no_utf_8_can_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = b"caf\xe9".decode("utf-8", "surrogateescape")
    monkeypatch.setenv("OTEL_TORCH_MODULES_RUN_ID", raw)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert detect()["torch.distributed.run_id"] == "caf\N{REPLACEMENT CHARACTER}"
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", f"team={raw}")
    found = build_resource(raw, {}).attributes
    assert (found["team"], found["service.name"]) == ("caf\N{REPLACEMENT CHARACTER}",) * 2
