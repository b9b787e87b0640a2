"""What a loop calls beside modules and optimizers has a span where it takes long, in the step whose time it is."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn
from torch.amp import GradScaler
from torch.optim import SGD, Optimizer, lr_scheduler
from torch.utils.data import DataLoader

from otel_torch_modules import Config
from otel_torch_modules._recording.causes import loop_calls
from otel_torch_modules.testing import capture_spans
from tests.support.caused import Clock
from tests.support.small_training import BACKWARD, FORWARD, Net, batch, optimizer, outline, step


class Loop:
    """A model with all that a loop may have around it."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = Net()
        self.sgd: Optimizer = SGD(self.model.parameters(), lr=0.1)
        self.scaler = GradScaler("cpu", init_scale=4.0)
        self.plateau = lr_scheduler.ReduceLROnPlateau(self.sgd)
        self.steps = lr_scheduler.StepLR(self.sgd, 1)
        self.chained = lr_scheduler.ChainedScheduler([self.steps])

    def backward(self) -> None:
        """Make gradients."""
        self.scaler.scale(self.model(batch()).sum()).backward()


CALLS: list[tuple[str, str, Callable[[Loop], Any]]] = [
    ("", "clip_grad_norm\n", lambda a: nn.utils.clip_grad_norm_(a.model.parameters(), 1.0)),
    ("", "clip_grad_value\n", lambda a: nn.utils.clip_grad_value_(a.model.parameters(), 1.0)),
    ("", "zero_grad\n", lambda a: a.sgd.zero_grad(set_to_none=False)),
    ("", "zero_grad\n", lambda a: a.model.zero_grad(set_to_none=False)),
    ("", "scaler.unscale\n", lambda a: a.scaler.unscale_(a.sgd)),
    ("lr_scheduler.step\n", "", lambda a: a.steps.step()),
    ("lr_scheduler.step\n", "", lambda a: a.plateau.step(1.0)),
    ("lr_scheduler.step\n  lr_scheduler.step\n", "", lambda a: a.chained.step()),
    ("scaler.update\n", "", lambda a: a.scaler.update()),
]


@pytest.fixture
def all_calls(no_pauses_of_the_machines: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no call be too short."""
    monkeypatch.setattr(loop_calls, "SHORTEST", 0)


def three_steps(loop: Loop, call: Callable[[Loop], Any], after: bool) -> list[float]:
    """Train, with `call` before or after the optimizer's step."""
    for _ in range(3):
        loop.backward()
        if not after:
            call(loop)
        loop.scaler.step(loop.sgd)
        if after:
            call(loop)
        loop.scaler.update(4.0)
    return [value for tensor in loop.model.parameters() for value in tensor.flatten().tolist()]


@pytest.mark.usefixtures("all_calls")
@pytest.mark.parametrize(("next_step", "own", "call"), CALLS)
def test_each_has_a_span(next_step: str, own: str, call: Callable[[Loop], Any]) -> None:
    after = bool(next_step)
    loop = Loop()
    clocks: list[Clock] = []

    def timed(loop: Loop) -> None:
        clocks.append(Clock())
        with clocks[-1].around():
            call(loop)

    with capture_spans() as captured:
        parameters = three_steps(loop, timed, after)
    expected = parameters == three_steps(Loop(), call, after)
    assert expected
    ends = "scaler.update\n"  # which every iteration of this loop ends with
    unscales = "scaler.unscale\n" * (
        own != "scaler.unscale\n"
    )  # the scaler itself, unless it was told to
    first = step(FORWARD, BACKWARD, own, unscales, optimizer())
    others = step(next_step, ends, FORWARD, BACKWARD, own, unscales, optimizer())
    assert outline(captured) == first + others + others
    called = (own or next_step).partition("\n")[0]
    spans = [span for tree in captured.trees for span in tree.find(called)]
    for clock in clocks[:2]:  # after the last step there is none that would have it
        assert any(clock.holds(span) for span in spans)
    assert {tuple(span.attributes.items()) for span in spans} <= {(("torch.phase", "loop"),)}


@pytest.mark.usefixtures("all_calls")
def test_a_step_with_a_loader_has_what_the_loop_did_since_the_last() -> None:
    """Also between the optimizer's step and the wait for the next batch."""
    loop = Loop()
    with capture_spans() as captured:
        for inputs in DataLoader(torch.ones(6, 4), batch_size=2):  # type: ignore[arg-type]
            loop.sgd.zero_grad()
            loop.model(inputs).sum().backward()
            loop.sgd.step()
            loop.steps.step()
    waits, drops, rate = "dataloader.next\n", "zero_grad\n", "lr_scheduler.step\n"
    first = step(waits, drops, FORWARD, BACKWARD, optimizer())
    others = step(rate, waits, drops, FORWARD, BACKWARD, optimizer())
    assert outline(captured) == first + others + others
    for before, after in pairwise(captured.trees):
        assert after.start == before.end


def test_a_short_one_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_calls, "SHORTEST", 1 << 62)
    loop = Loop()
    with capture_spans() as captured:
        three_steps(loop, lambda a: a.steps.step(), after=True)
    assert outline(captured) == 3 * step(FORWARD, BACKWARD, optimizer())


@pytest.mark.usefixtures("all_calls")
def test_one_that_raises_is_the_programs_and_has_its_span() -> None:
    model = Net()
    sgd = SGD(model.parameters(), lr=0.1)
    with capture_spans() as captured:
        model(batch() * float("nan")).sum().backward()
        with pytest.raises(RuntimeError, match="non-finite"):
            nn.utils.clip_grad_norm_(model.parameters(), 1.0, error_if_nonfinite=True)
        sgd.step()
    assert outline(captured) == step(FORWARD, BACKWARD, "clip_grad_norm\n", optimizer())


@pytest.mark.usefixtures("all_calls")
def test_none_is_wrapped_where_they_are_not_chosen() -> None:
    before = nn.utils.clip_grad_norm_
    with capture_spans(Config(causes=())) as captured:
        assert nn.utils.clip_grad_norm_ is before
        three_steps(Loop(), lambda a: a.steps.step(), after=True)
    assert outline(captured) == 3 * step(FORWARD, BACKWARD, optimizer())
