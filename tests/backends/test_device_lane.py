"""The lane of a device, through the real collector into the real Jaeger and back: nested, and where its phases ran."""

from __future__ import annotations

import uuid

import pytest

from tests.support.backend_servers import Collector, Jaeger
from tests.support.simdev.run import on_the_device

pytestmark = [pytest.mark.backend, pytest.mark.slow]

STEPS = 3
PROGRAM = f"""
import json
import torch
import tests.support.simdev.device
from torch import nn
from otel_torch_modules._assembly.reading import between

between.SHORTEST = 1 << 62  # no stretch is in a tree because the machine had other work
torch.set_default_device("sim")
model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
sgd = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range({STEPS}):
    model(torch.ones(2, 4)).sum().backward()
    sgd.step()
print(json.dumps("done"))
"""
STEP = [
    "train.step",
    "  forward Sequential",
    "    forward 0",
    "    forward 1",
    "  backward",
    "    backward Sequential",
    "      backward 1",
    "      backward 0",
    "  optimizer.step SGD",
]
LANE = ["device", "  forward", "  backward", "  optimizer"]


def test_each_step_has_its_lane_below_it(jaeger: Jaeger, collector: Collector) -> None:
    service = f"lane-{uuid.uuid4()}"
    done = on_the_device(
        "-c",
        PROGRAM,
        OTEL_TORCH_MODULES_ENABLED="true",
        OTEL_TORCH_MODULES_CAUSES="none",
        OTEL_SERVICE_NAME=service,
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{collector.otlp_grpc}",
        OTEL_EXPORTER_OTLP_INSECURE="true",
    )
    assert done == "done"
    found = jaeger.query.wait_for_traces(service, STEPS * (len(STEP) + len(LANE)))
    for step in sorted(found, key=lambda root: root.start):
        (lane,) = (span for span in step.children if span.name == "device")
        step.children.remove(lane)  # it lies as far behind the others as the device was
        assert step.outline() == STEP
        assert lane.outline() == LANE
        assert {span.attributes["torch.phase"] for span in lane.walk()} == {"device"}
        told = [span for span in step.children if "torch.device.duration" in span.attributes]
        assert len(told) == len(lane.children)
        for span, ran in zip(told, lane.children, strict=True):
            lag, seconds = (span.attributes[f"torch.device.{what}"] for what in ("lag", "duration"))
            assert ran.start == span.start + round(lag * 1e9)
            assert ran.end == ran.start + round(seconds * 1e9)
        assert (lane.start, lane.end) == (lane.children[0].start, lane.children[-1].end)
