"""What a process says about its place in a job of many ranks."""

from __future__ import annotations

import os
import socket
import sys
import uuid
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from opentelemetry.sdk.resources import (
    HOST_NAME,
    PROCESS_PID,
    SERVICE_INSTANCE_ID,
    Resource,
    ResourceDetector,
)

from otel_torch_modules import semconv
from otel_torch_modules._interruption import is_interruption, suppressed
from otel_torch_modules._job import launchers
from otel_torch_modules._texts import encodable_attributes
from otel_torch_modules.environment_variables import OTEL_TORCH_MODULES_RUN_ID


class TorchDistributedResourceDetector(ResourceDetector):
    """Rank, local rank, world size, node, run id and accelerator of this process, and which process it is.

    It looks at the launcher's variables and at ``torch.distributed``; it neither waits for the one nor imports the
    other. Where both say something the process group counts: a launcher may know of one process for each node
    only. A provider of ours has these attributes anyway; another one, with
    ``OTEL_EXPERIMENTAL_RESOURCE_DETECTORS=torch_distributed,otel``.

    Example:
        >>> TorchDistributedResourceDetector().detect().attributes["process.pid"] == os.getpid()
        True
    """

    def detect(self) -> Resource:
        """Return what is known now; a job of one process has no rank."""
        return distributed_resource(os.environ)


def distributed_resource(environ: Mapping[str, str]) -> Resource:
    """Return what `TorchDistributedResourceDetector` detects, by the launcher's variables in `environ`."""
    attributes: dict[str, str | int] = {HOST_NAME: socket.gethostname()}
    with suppressed(PackageNotFoundError):  # a torch built in place has no metadata
        attributes[semconv.TORCH_VERSION] = version("torch")
    accelerator = _accelerator()
    if accelerator:
        attributes[semconv.ACCELERATOR] = accelerator
    attributes.update(_place_in_job(environ))
    return Resource(encodable_attributes(attributes)).merge(process_resource())


def process_resource() -> Resource:
    """Return the attributes that differ between a process and its forked child."""
    pid = os.getpid()
    return Resource({PROCESS_PID: pid, SERVICE_INSTANCE_ID: _instance_id(pid)})


@lru_cache(maxsize=1)
def _instance_id(pid: int) -> str:
    return str(uuid.uuid4())


def _place_in_job(environ: Mapping[str, str]) -> dict[str, str | int]:
    launched = launchers.place(environ)
    group = _process_group() or (launched and (launched.rank, launched.world_size))
    if group is None:
        return {}
    rank, world_size = group
    attributes: dict[str, str | int] = {
        semconv.DISTRIBUTED_RANK: rank,
        semconv.DISTRIBUTED_WORLD_SIZE: world_size,
    }
    if launched is not None and launched.local_rank is not None and launched.rank == rank:
        attributes[semconv.DISTRIBUTED_LOCAL_RANK] = launched.local_rank
    node = launchers.node_rank(environ)
    if node is not None:
        attributes[semconv.DISTRIBUTED_NODE_RANK] = node
    run_id = environ.get(OTEL_TORCH_MODULES_RUN_ID) or launchers.run_id(environ)
    if run_id:
        attributes[semconv.DISTRIBUTED_RUN_ID] = run_id
    return attributes


def _process_group() -> tuple[int, int] | None:
    distributed: Any = sys.modules.get("torch.distributed")
    try:
        if distributed is None or not distributed.is_available():
            return None
        if not distributed.is_initialized():
            return None
        return distributed.get_rank(), distributed.get_world_size()
    except AttributeError as error:  # in the middle of being imported
        if is_interruption(error):
            raise
        return None


def _accelerator() -> str | None:
    """Return the kind of device that the program uses already: to ask for one that it does not use would start it."""
    torch: Any = sys.modules.get("torch")
    try:
        device = torch.accelerator.current_accelerator()
        started = device is not None and torch.get_device_module(device).is_initialized()
    except (AttributeError, RuntimeError) as error:  # no torch yet, or one without accelerators
        if is_interruption(error):
            raise
        return None
    return str(device.type) if started else None
