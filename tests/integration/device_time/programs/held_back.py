"""What keeps the device's times from a step, on the simulated accelerator: prints which steps have them after all."""

from __future__ import annotations

import json
import logging
import time
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

from otel_torch_modules._recording.device_events import DeviceEvents
from otel_torch_modules._records import Record
from otel_torch_modules.schedule import Schedule
from otel_torch_modules.testing import CapturedSpan, capture_spans
from tests.support.simdev import device as simdev

MS = 1_000_000
NEVER = 100_000 * MS


def train(steps: int, *, capture_at: int = -1, behind: int = 0) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    sgd = torch.optim.SGD(net.parameters(), lr=0.01)
    for at in range(steps):
        if at == capture_at:
            graph = torch.accelerator.Graph()
            simdev.launch(behind)
        loss = net(torch.ones(2, 4)).sum()
        if at == capture_at:
            graph.capture_begin()
        loss.backward()
        if at == capture_at:
            asked = simdev.counts()["queries"]
            time.sleep(0.5)  # the worker looks a few times meanwhile
            assert simdev.counts()["queries"] == asked
            graph.capture_end()  # raises where an event was asked for
        sgd.step()
        sgd.zero_grad()


def outline(span: CapturedSpan) -> list[Any]:
    varying = ("torch.step.major_faults", "torch.step.involuntary_switches")
    said = sorted(key for key in span.attributes if key not in varying)
    return [span.name, said, [*map(outline, span.children)]]


def steps(trees: list[CapturedSpan]) -> list[Any]:
    return [outline(tree) for tree in trees]


def stamps() -> dict[str, Any]:
    """Return what becomes of a step's events where something is in their way."""
    events = DeviceEvents(1, Schedule())
    found: dict[str, Any] = {}

    def opened() -> Any:
        record = Record("step", 0, 0, 0)
        events.step_opens(record)
        return record.stamps

    many = [opened() for _ in range(300)]
    found["of 300"] = sum(one is not None for one in many)
    found["with modules"] = [one.of_modules for one in many[:4]]
    many[0].lose()
    found["after one"] = [(another := opened()) is not None, another.of_modules, opened() is None]
    del many, another
    found["after all"] = opened() is not None

    unknown: list[list[bool]] = []
    for error in (RuntimeError, TypeError, NotImplementedError, AttributeError, KeyError):
        # As a backend of somebody else's may answer, which has no events or others.
        taken, other = opened(), DeviceEvents(1, Schedule())
        with patch.object(taken._device, "event", side_effect=error):
            unknown.append([taken.take() is None, taken.over])
        with patch.object(torch, "Stream", side_effect=error):
            record = Record("step", 0, 0, 0)
            other.step_opens(record)
            unknown[-1].append(record.stamps is None)
    found["unknown"] = unknown

    hit = opened()
    hit.put(1, hit.take())
    simdev.set_capturing(True)
    found["while capturing"] = [hit.take() is None, hit.over, opened() is None]
    simdev.set_capturing(False)
    found["hit"] = [hit.passed(), hit.read()]

    captured = opened()
    stamp = captured.take()
    captured.put(1, stamp)
    simdev.set_capturing(True)
    stamp.event.record()
    simdev.set_capturing(False)
    found["its event captured"] = [captured.passed(), captured.read()]

    busy = opened()
    simdev.launch(200 * MS)
    busy.put(1, busy.take())
    found["busy"] = [busy.passed(), busy.over]
    torch.accelerator.synchronize()
    graph = torch.accelerator.Graph()
    events.install()
    graph.capture_begin()
    found["another's capture"] = busy.passed()
    graph.capture_end()
    found["after it"] = [busy.passed(), busy.read().times[1] > 0]
    graph.capture_begin()
    del graph  # given up without a word
    found["given up"] = events.captures.any
    events.uninstall()
    simdev.set_capturing(False)
    return found


if __name__ == "__main__":
    torch.set_default_device("sim")
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda entry: lines.append(entry.getMessage())
    logging.getLogger("otel_torch_modules").addHandler(handler)
    with capture_spans() as warm:
        train(3)
    with capture_spans() as around_capture:
        train(6, capture_at=3, behind=300 * MS)
    of_stamps = stamps()
    started = time.monotonic()
    with capture_spans() as hung:
        train(2)
        simdev.launch(NEVER)
        train(2)
    took = time.monotonic() - started
    print(
        json.dumps(
            {
                "warm": steps(warm.trees),
                "around a capture": steps(around_capture.trees),
                "hung": steps(hung.trees),
                "took": took,
                "log": lines,
                "stamps": of_stamps,
            }
        )
    )
