"""How many functions of ours a step calls: once a step nothing of them is in a cache, so it is their number that costs.

On the clock that is a share of a step of some ten milliseconds, which no test can hold on a machine with other work.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from types import FrameType

import torch
from opentelemetry.sdk.trace import TracerProvider
from torch import nn

import otel_torch_modules
from otel_torch_modules import Config, Schedule, trace

OURS = otel_torch_modules.__path__[0]

CALLS = 19  # of modules, and 22 marks
MOST = 170
"""Of Python: two for a call, one for a mark, and what is done once a step; a few more where a collection comes."""

MOST_LEFT_OUT = 34
"""Of Python, beside one for each call; a few more where a collection comes."""


def called(step: Callable[[], object], config: Config) -> Counter[str]:
    """Return how often each of ours is called in a step, by name, once some steps have been.

    In one of a few steps in which nothing is due that is done now and then, in a share of the time.
    """
    found: Counter[str]
    counted = []

    def count(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(OURS):
            found[frame.f_code.co_name] += 1

    with trace(config=config, tracer_provider=TracerProvider(shutdown_on_exit=False)):
        for _ in range(4):
            step()
        for _ in range(4):
            found = Counter()
            sys.setprofile(count)
            try:
                step()
            finally:
                sys.setprofile(None)
            counted.append(found)
    return min(counted, key=Counter.total)


def model() -> nn.Module:
    layers = [nn.TransformerEncoderLayer(8, 2, 16, batch_first=True) for _ in range(2)]
    return nn.Sequential(*layers)


def test_a_step_with_few_calls_calls_few_functions() -> None:
    trained = model()
    sgd = torch.optim.SGD(trained.parameters(), lr=1e-4)
    batch = torch.randn(2, 4, 8)

    def step() -> None:
        sgd.zero_grad()
        trained(batch).square().mean().backward()
        sgd.step()

    found = called(step, Config())
    assert found["record_call"] == CALLS
    assert found.total() <= MOST, found.most_common()


def test_a_step_that_is_left_out_calls_few_functions() -> None:
    import torch._dynamo  # what is asked only for its sake is asked no more often than needed

    trained, batch = model(), torch.randn(2, 4, 8)

    def step() -> None:
        with otel_torch_modules.step():
            trained(batch).square().mean().backward()

    found = called(step, Config(schedule=Schedule(wait=1_000, active=1)))
    assert found["record_call"] == 0
    assert found.total() - found["__call__"] <= MOST_LEFT_OUT, found.most_common()
