"""The device's times on a real device: kernels whose time is known, captures, recompute and a second stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from otel_torch_modules import Config
from otel_torch_modules.testing import CapturedSpan, capture_spans
from tests.device.training import Block, train, two_blocks

pytestmark = pytest.mark.device

Busy = Callable[[float], None]
MODULES = Config(device_time="modules", device_every=1, causes=("memory",))
DURATION, LAG = "torch.device.duration", "torch.device.lag"


def near(seconds: float) -> object:
    return pytest.approx(seconds, rel=0.03, abs=50e-6)


def spans(tree: CapturedSpan) -> Iterator[CapturedSpan]:
    yield tree
    for child in tree.children:
        yield from spans(child)


def outline(tree: CapturedSpan) -> list[str]:
    """Return the names of all spans, but those that a pause of the machine makes and those of the device's lane."""
    lanes = [span for child in tree.children if child.name == "device" for span in spans(child)]
    made = ("between", "python.gc")
    return [span.name for span in spans(tree) if span not in lanes and span.name not in made]


@pytest.mark.parametrize("modules", [False, True])
def test_known_kernels_and_no_synchronisation(
    modules: bool, busy: Busy, device: torch.device
) -> None:
    model = two_blocks(busy, device)
    train(model, device, 2)
    config = MODULES if modules else Config()
    with capture_spans(config) as captured:
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("error")
        busy(0.2)
        train(model, device, 2)
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")
        torch.accelerator.synchronize()
    for tree in captured.trees:
        took = {span.name: span.attributes.get(DURATION) for span in spans(tree)}
        assert took["forward Sequential"] == near(0.007)
        assert took["backward"] == near(0.014)
        if modules:
            assert [took["forward 0"], took["forward 1"]] == [near(0.005), near(0.002)]
            assert [took["backward 0"], took["backward 1"]] == [near(0.010), near(0.004)]
        lag = tree.attributes[LAG]
        assert isinstance(lag, float)
        assert 0.1 < lag < 0.5


@pytest.mark.parametrize("way", ["reduce-overhead", "make_graphed_callables", "graph"])
def test_captures_go_on(way: str, busy: Busy, cuda: torch.device) -> None:
    def run() -> list[float]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64)).to(cuda)
        called: nn.Module = model
        if way == "reduce-overhead":
            torch._dynamo.reset()
            called = torch.compile(model, mode="reduce-overhead")  # type: ignore[assignment]
        elif way == "make_graphed_callables":
            called = torch.cuda.make_graphed_callables(model, (torch.ones(32, 64, device=cuda),))
        else:
            graph, x = torch.cuda.CUDAGraph(), torch.ones(32, 64, device=cuda)
            with torch.cuda.graph(graph), torch.no_grad():
                model(x)
        busy(0.1)
        return [float(loss) for loss in train(called, cuda, 20)]

    untraced = run()
    with capture_spans(MODULES) as captured:
        traced = run()
    assert traced == untraced
    steps = [tree for tree in captured.trees if tree.name == "train.step"]
    assert [LAG in tree.attributes for tree in steps[-5:]] == [True] * 5


class Odd(nn.Module):
    """A checkpointed part, and one that works on another stream, for which its own waits."""

    def __init__(self, busy: Busy, device: torch.device, use_reentrant: bool) -> None:
        super().__init__()
        self.first = Block(busy, 0.001, 0.002)
        self.again = Block(busy, 0.002, 0.004)
        self.other = torch.Stream(device=device)
        self.use_reentrant = use_reentrant
        self.busy = busy

    def forward(self, x: Tensor) -> Tensor:
        x = checkpoint(self.again, self.first(x), use_reentrant=self.use_reentrant)
        with self.other:
            self.busy(0.003)
            done = self.other.record_event()
        torch.accelerator.current_stream().wait_event(done)
        return x


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_recompute_and_a_second_stream(
    use_reentrant: bool, busy: Busy, device: torch.device
) -> None:
    def tree(on: torch.device, busy: Busy) -> CapturedSpan:
        torch.manual_seed(0)
        model = Odd(busy, device, use_reentrant).to(on)
        train(model, on, 1)
        with capture_spans(MODULES) as captured:
            busy(0.1)  # so that the device has work all the time
            train(model, on, 1)
            torch.accelerator.synchronize()
        return captured.trees[0]

    found = tree(device, busy)
    took = {span.name: span.attributes.get(DURATION) for span in [*spans(found)][::-1]}
    assert took["recompute again"] == near(0.002)
    assert took["backward"] == near(0.008)
    on_the_cpu = tree(torch.device("cpu"), lambda seconds: None)
    assert outline(found) == outline(on_the_cpu)
