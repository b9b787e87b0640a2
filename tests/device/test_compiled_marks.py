"""Marks inside one compiled graph on CUDA: in order, with the device's times, and nothing else is changed by them."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from statistics import median

import pytest
import torch
import torch._dynamo
from torch import nn

from otel_torch_modules import Config
from otel_torch_modules.testing import Captured, CapturedSpan, capture_spans
from tests.integration.compiled.blocks import Model

pytestmark = pytest.mark.device

MARKED = Config(causes=(), compiled_marks=("*.h.*",), device_time="modules", device_every=1)
DURATION, LAG = "torch.device.duration", "torch.device.lag"
BLOCKS = ["h.0", "h.1", "h.2"]


@pytest.fixture
def compiling(cuda: torch.device) -> torch.device:
    return cuda


class Trained:
    """A model that is compiled as one, the same each time, and its steps."""

    def __init__(self, device: torch.device, dtype: torch.dtype, **options: str) -> None:
        torch._dynamo.reset()
        torch.manual_seed(0)
        self.model: nn.Module = Model().to(device, dtype)
        self.model.compile(fullgraph=True, **options)
        self.sgd = torch.optim.SGD(self.model.parameters(), lr=0.01)
        self.x = torch.ones(64, 4, device=device, dtype=dtype)

    def steps(self, count: int) -> list[float]:
        """Make steps, wait for the device, and return the parameters."""
        for _ in range(count):
            self.model(self.x).square().mean().backward()
            self.sgd.step()
            self.sgd.zero_grad()
        return [
            value
            for parameter in self.model.parameters()
            for value in parameter.detach().flatten().tolist()
        ]


def regions(tree: CapturedSpan, phase: str) -> list[CapturedSpan]:
    """Return the spans of one phase that marks have made, as they ran."""
    return [
        span
        for span in tree.walk()
        if span.attributes["torch.phase"] == phase and span.attributes.get("torch.compiled.region")
    ]


def began(span: CapturedSpan) -> float:
    """Return when the device came to it, in seconds since the epoch; where it does not say, the program."""
    lag = span.attributes.get(LAG, 0.0)
    assert isinstance(lag, float)
    return span.start / 1e9 + lag


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_all_borders_in_order_and_bitwise_the_same(
    dtype: torch.dtype, compiling: torch.device
) -> None:
    untraced = Trained(compiling, dtype).steps(6)
    with capture_spans(MARKED) as captured:
        traced = Trained(compiling, dtype).steps(6)
    assert traced == untraced
    for tree in captured.trees[2:]:
        for phase, order in (("forward", BLOCKS), ("backward", BLOCKS[::-1])):
            found = regions(tree, phase)
            assert [span.name for span in found] == [f"{phase} {name}" for name in order]
            assert all(began(before) <= began(after) for before, after in pairwise(found))
            if compiling.type != "cpu":
                assert all(DURATION in span.attributes for span in found)


def test_graphs_of_cuda_are_left_alone(compiling: torch.device) -> None:
    untraced = Trained(compiling, torch.float32, mode="reduce-overhead").steps(6)
    with capture_spans(MARKED) as captured:
        traced = Trained(compiling, torch.float32, mode="reduce-overhead").steps(6)
    assert traced == untraced
    if compiling.type != "cpu":  # there such a model has no graph to be left alone
        assert [regions(tree, "forward") for tree in captured.trees] == [[]] * 6


def test_what_marks_cost(compiling: torch.device) -> None:
    """Prints the figures of a step without marks and with them, and is content with less than half as much again."""
    ways: dict[str, Callable[[], AbstractContextManager[Captured | None]]] = {
        "without": nullcontext,
        "marked": lambda: capture_spans(MARKED),
    }
    usual = {}
    for way, traced in ways.items():
        with traced():
            trained = Trained(compiling, torch.float32)
            trained.steps(5)
            times = []
            for _ in range(20):
                start = time.perf_counter()
                trained.steps(10)
                times.append((time.perf_counter() - start) / 10)
        usual[way] = median(times)
    print({way: f"{1e6 * seconds:.1f} µs a step" for way, seconds in usual.items()})
    # Small as it is, all of a step is the host's: 16 marks, and the calls of the model itself.
    assert usual["marked"] < 3 * usual["without"] + 1e-3
