"""What a step costs where its device is asked: figures, printed by ``pytest -s``, and what they may be at most."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from statistics import median

import pytest
import torch
from torch import Tensor

from otel_torch_modules import Config
from otel_torch_modules._recording.torch_private.devices import device_in_use, device_memory_stats
from otel_torch_modules.examples.train_gpt import CONTEXT, GPT, VOCABULARY
from otel_torch_modules.testing import Captured, capture_spans

pytestmark = pytest.mark.device

Traced = Callable[[], AbstractContextManager[Captured | None]]

WAYS: dict[str, Traced] = {
    "untraced": nullcontext,
    "off": lambda: capture_spans(Config(device_time="off")),
    "phases": lambda: capture_spans(Config(device_time="phases")),
    "modules": lambda: capture_spans(Config(device_time="modules", device_every=1)),
}


def step_of_gpt(device: torch.device, width: int, batch: int) -> Callable[[], Tensor]:
    """Return what makes a step: nobody waits for the loss."""
    torch.manual_seed(0)
    model = GPT(width).to(device)
    adam = torch.optim.AdamW(model.parameters())
    tokens = torch.randint(len(VOCABULARY), (batch, CONTEXT)).to(device)

    def step() -> Tensor:
        loss = model(tokens).square().mean()
        loss.backward()
        adam.step()
        adam.zero_grad()
        return loss.detach()

    return step


def test_what_a_step_costs(device: torch.device) -> None:
    """Steps untraced, traced without the device's times, with those of phases, with those of all modules, in turns."""
    real = device.type == "cuda"
    rounds, steps = (20, 10) if real else (3, 2)
    step = step_of_gpt(device, 768 if real else 32, 32 if real else 1)
    for _ in range(3):
        step()
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, traced in WAYS.items():
            torch.accelerator.synchronize()
            with traced():
                start = time.perf_counter()
                for _ in range(steps):
                    step()
                torch.accelerator.synchronize()
                times[way].append((time.perf_counter() - start) / steps)
    usual = {way: median(found) for way, found in times.items()}
    shares = {way: found / usual["off"] for way, found in usual.items()}
    print(
        torch.accelerator.current_accelerator(),
        {way: f"{1e3 * s:.3f} ms" for way, s in usual.items()},
    )
    print({way: f"{share:.4f} of a traced step without" for way, share in shares.items()})
    # Simulated, a step is the host's work alone, and a kernel costs nothing.
    most = {"phases": 1.01, "modules": 1.03} if real else {"phases": 2.0, "modules": 6.0}
    for way, limit in most.items():
        assert shares[way] < limit


def test_what_an_event_costs(device: torch.device) -> None:
    """An event that is put on a stream, asked for, and told from another; and the raw statistics of the allocator."""
    in_use = device_in_use()
    assert in_use is not None
    events = [torch.Event(device, enable_timing=True) for _ in range(1_000)]
    figures: dict[str, float] = {}

    def measure(name: str, ask: Callable[[torch.Event], object]) -> None:
        start = time.perf_counter_ns()
        for event in events:
            ask(event)
        figures[name] = (time.perf_counter_ns() - start) / len(events)

    measure("record first", torch.Event.record)
    measure("record", torch.Event.record)
    measure("query", torch.Event.query)
    torch.accelerator.synchronize()
    measure("elapsed_time", events[0].elapsed_time)
    measure("memory", lambda event: device_memory_stats(in_use))
    print({name: f"{ns:.0f} ns" for name, ns in figures.items()})
    assert all(event.query() for event in events)
    assert figures["record"] < 50_000  # ten times what is published
