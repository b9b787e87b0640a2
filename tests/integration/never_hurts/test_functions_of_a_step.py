"""How many functions of ours a step calls: once a step nothing of them is in a cache, so it is their number that costs.

On the clock that is a share of a step of some ten milliseconds, which no test can hold on a machine with other work.
"""

from __future__ import annotations

import sys
from collections import Counter
from types import FrameType

import torch
from opentelemetry.sdk.trace import TracerProvider
from torch import nn

import otel_torch_modules
from otel_torch_modules import Config, trace

OURS = otel_torch_modules.__path__[0]

CALLS = 19  # of modules, and 22 marks
MOST = 170
"""Of Python: two for a call, one for a mark, and what is done once a step; a few more where a collection comes."""


def test_a_step_with_few_calls_calls_few_functions() -> None:
    layers = [nn.TransformerEncoderLayer(8, 2, 16, batch_first=True) for _ in range(2)]
    model = nn.Sequential(*layers)
    sgd = torch.optim.SGD(model.parameters(), lr=1e-4)
    batch = torch.randn(2, 4, 8)
    called: Counter[str] = Counter()

    def step() -> None:
        sgd.zero_grad()
        model(batch).square().mean().backward()
        sgd.step()

    def count(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(OURS):
            called[frame.f_code.co_name] += 1

    with trace(config=Config(), tracer_provider=TracerProvider(shutdown_on_exit=False)):
        for _ in range(4):
            step()
        sys.setprofile(count)
        try:
            step()
        finally:
            sys.setprofile(None)
    assert called["record_call"] == CALLS
    assert called.total() <= MOST, called.most_common()
