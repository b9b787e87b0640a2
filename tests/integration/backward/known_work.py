"""Modules that take known times, and what the spans of a run have lasted."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from otel_torch_modules.testing import Captured, CapturedSpan
from tests.support.passing_time import Clock

_MS = 1_000_000


class Work(nn.Module):
    """Takes known times for forward and for backward, where it reads what it saved first."""

    def __init__(self, clock: Clock, forward: float, backward: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.work = (clock, forward, backward)

    def forward(self, x: Tensor) -> Tensor:
        return Sleep.apply(x, self.weight, *self.work)


class Sleep(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, clock: Any, forward: float, backward: float
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.clock, ctx.backward_time = clock, backward
        clock.sleep(forward)
        return x * weight

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        ctx.clock.sleep(ctx.backward_time)
        return gradient * weight, (gradient * x).sum(), None, None, None


def durations(captured: Captured) -> str:
    """Return all spans, a line each, with what they last and, where they have children, their own part of it (ms)."""
    return "\n".join(line for root in captured.trees for line in _lines(root))


def _lines(span: CapturedSpan) -> list[str]:
    own = _duration(span) - sum(map(_duration, span.children))
    line = f"{span.name}: {_duration(span) / _MS:g}"
    if span.children:
        line += f", {own / _MS:g} own"
    return [line] + ["  " + below for child in span.children for below in _lines(child)]


def _duration(span: CapturedSpan) -> int:
    return span.end - span.start


class UnsavedWork(nn.Module):
    """Like `Work`, but works in backward before it needs anything that it saved."""

    def __init__(self, clock: Clock, forward: float, backward: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.work = (clock, forward, backward)

    def forward(self, x: Tensor) -> Tensor:
        return UnsavedSleep.apply(x * self.weight, *self.work)


class UnsavedSleep(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, clock: Any, forward: float, backward: float) -> Tensor:
        ctx.clock, ctx.backward_time = clock, backward
        clock.sleep(forward)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        ctx.clock.sleep(ctx.backward_time)
        return gradient, None, None, None
