"""Collectives where a real device has them: NCCL, by this process alone, and what DDP launches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest
import torch
from torch import Tensor, distributed, nn
from torch._C._distributed_c10d import HashStore
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from otel_torch_modules import Config
from otel_torch_modules.testing import capture_spans
from tests.device.training import train

pytestmark = pytest.mark.device

COLLECTIVES = Config(causes=("collective", "memory"), device_time="modules", device_every=1)


@contextmanager
def group_on(device: torch.device) -> Iterator[None]:
    """A process group of this process alone."""
    backend = "nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(backend, store=HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.fixture
def grouped(cuda: torch.device) -> Iterator[torch.device]:
    with group_on(cuda):
        yield cuda


class Summing(nn.Module):
    """Sums its result over all ranks, twice at once, and waits."""

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(64, 64)

    def forward(self, x: Tensor) -> Tensor:
        x = self.lin(x)
        sums = [x.detach().clone() for _ in range(2)]
        works = [distributed.all_reduce(one, async_op=True) for one in sums]
        for work in works:
            assert work is not None
            work.wait()
        return x + sums[0] + sums[1]


def trained(model: nn.Module, device: torch.device, steps: int = 6) -> list[float]:
    """Return losses and parameters."""
    return [
        value
        for one in (*train(model, device, steps), *model.parameters())
        for value in whole(one.detach()).flatten().tolist()
    ]


def whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def net(device: torch.device) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(Summing(), nn.Linear(64, 64)).to(device)


def sharded(device: torch.device) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(64, 64) for _ in range(2)))
    for layer in model.to(device):
        fully_shard(layer)
    fully_shard(model)
    return model


WAYS: dict[str, tuple[Callable[[torch.device], nn.Module], dict[str, int]]] = {
    "its own": (net, {"all_reduce": 2}),
    "ddp": (lambda device: DistributedDataParallel(net(device)), {"all_reduce": 3}),
    "fsdp2": (sharded, {}),  # of one rank there is nothing to gather
}


@pytest.mark.parametrize("way", WAYS)
def test_all_are_there_and_nothing_changes(way: str, grouped: torch.device) -> None:
    make, expected = WAYS[way]
    untraced = trained(make(grouped), grouped)
    with capture_spans(COLLECTIVES) as captured:
        traced = trained(make(grouped), grouped)
    assert traced == untraced
    for tree in captured.trees[2:]:
        found = [span for span in tree.walk() if span.attributes["torch.phase"] == "collective"]
        assert Counter(span.name for span in found) == expected
        assert all(tree.start <= span.start <= span.end <= tree.end for span in found)
        assert all(span.attributes["torch.collective.bytes"] for span in found)
        # A device does not say when one is done; what the stream waited for is in the device's times around it.
        done = {span.attributes["torch.collective.completed"] for span in found}
        assert done <= {False} or grouped.type == "cpu"
        assert "torch.device.lag" in tree.attributes or grouped.type == "cpu"


def test_no_tensor_is_kept(grouped: torch.device) -> None:
    with capture_spans(COLLECTIVES) as captured:
        train(net(grouped), grouped, 30)
        if grouped.type != "cpu":
            torch.accelerator.synchronize()
    if grouped.type != "cpu":
        held = [tree.attributes["torch.device.memory.allocated"] for tree in captured.trees]
        assert len({after - before for before, after in pairwise(held[10:])}) == 1
    assert len(captured.trees) == 30


def test_a_capture_with_one_goes_on(grouped: torch.device) -> None:
    tensor = torch.ones(1024, device=grouped)
    distributed.all_reduce(tensor)  # the communicator is made outside
    with capture_spans(COLLECTIVES) as captured:
        train(net(grouped), grouped, 2)
        if grouped.type == "cuda":
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                distributed.all_reduce(tensor)
            graph.replay()
        train(net(grouped), grouped, 2)
    assert len(captured.trees) == 4
    assert tensor.tolist() == [1.0] * 1024
