"""How many functions the worker calls for a step that is like one before it, where several wait for it.

It holds the interpreter lock meanwhile, and training has emptied the processor's caches: their number is what costs.
"""

from __future__ import annotations

import gc
import sys
import time
from collections import Counter
from types import FrameType

import pytest
import torch
from torch import nn

from otel_torch_modules._emission import named
from otel_torch_modules._emission.otlp.protobuf import Protobuf
from otel_torch_modules._emission.otlp.reply import TAKEN, Reply
from otel_torch_modules._emission.otlp.request_exporter import EncodedRequest, RequestExporter
from otel_torch_modules._engine.worker import Worker
from otel_torch_modules._tracing import Tracing
from otel_torch_modules.config import Config

BATCH = 16
SPANS = 49  # of a step, and those of long stretches of the loop's own
MOST = 200
"""Of Python, for each step."""
LONGEST = 2_500
"""Of Python and C, between two pauses."""


class Taking(RequestExporter):
    """Takes whatever comes."""

    def __init__(self) -> None:
        self.language = Protobuf()
        self.set_up("here", 1.0)
        self.spans = 0

    def attempt(self, request: EncodedRequest) -> Reply:
        self.spans += request.span_count
        return TAKEN


def test_a_step_that_repeats_calls_few_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = Taking()
    monkeypatch.setattr(named, "trace_exporters", lambda _: [exporter])
    monkeypatch.setattr(Worker, "start", lambda _: None)  # its work is done here
    tracing = Tracing(Config(), None)
    worker, emission = tracing._engine.worker, tracing._emission
    layers = [nn.TransformerEncoderLayer(8, 2, 16, batch_first=True) for _ in range(2)]
    model = nn.Sequential(*layers, *[nn.Linear(8, 8) for _ in range(4)])
    sgd = torch.optim.SGD(model.parameters(), lr=1e-4)
    batch = torch.randn(2, 4, 8)
    called: Counter[str] = Counter()

    def steps(count: int) -> None:
        for _ in range(count):
            sgd.zero_grad()
            model(batch).square().mean().backward()
            sgd.step()
        tracing._steps.hand_over_ended()

    def work() -> None:
        worker._handle_what_waits()
        emission.idle()

    stretches = [0]

    def count(frame: FrameType, event: str, function: object) -> None:
        if event == "call":
            called[frame.f_code.co_name] += 1
        if event == "c_call" and function is time.sleep:
            stretches.append(0)
        elif event in ("call", "c_call"):
            stretches[-1] += 1

    tracing.start()
    try:
        emission.prepare()
        emission.wait(10)
        steps(4)
        work()
        gc.disable()  # a collection would be a span of its own
        steps(BATCH)
        assert len(worker.queue) == BATCH
        sys.setprofile(count)
        try:
            work()
        finally:
            sys.setprofile(None)
        emission.export()
    finally:
        gc.enable()
        tracing.stop()
        emission.close()  # the worker would
    assert called["_repeat"] == BATCH
    assert called.total() <= BATCH * MOST, called.most_common()
    assert max(stretches) <= LONGEST, stretches
    assert exporter.spans >= (4 + BATCH) * SPANS
