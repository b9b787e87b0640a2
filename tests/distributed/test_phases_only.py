"""Ranks outside ``DETAIL_RANKS``: phases, and nothing of what the roots call. A job of one process is rank 0."""

from __future__ import annotations

import pytest
import torch
from opentelemetry import trace
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from otel_torch_modules import Config
from otel_torch_modules.testing import capture_spans

PHASES = Config(detail_ranks="1-7")


class MLP(nn.Module):
    def __init__(self, tracer: trace.Tracer | None = None) -> None:
        super().__init__()
        self.tracer = tracer or trace.NoOpTracer()
        self.fc = nn.Linear(4, 4)
        self.out = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = checkpoint(self.fc, x, use_reentrant=False)
        with self.tracer.start_as_current_span("of the program"):
            trace.get_current_span().set_attribute("inside", True)
        trace.get_current_span().set_attribute("seen", True)
        return self.out(hidden)


def train(model: nn.Module, steps: int) -> list[Tensor]:
    torch.manual_seed(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(steps):
        loss = model(torch.randn(2, 4)).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
    return losses


def test_phases_have_spans_and_modules_have_none() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    with capture_spans(PHASES) as captured:
        train(model, 2)
        with torch.no_grad():
            model.eval()(torch.randn(2, 4))
    assert captured.outline() == "\n".join(
        [
            *(
                "train.step",
                "  forward Sequential",
                "  backward",
                "    backward Sequential",
                "  optimizer.step SGD",
            )
            * 2,
            "evaluate",
            "  forward Sequential",
        ]
    )


def test_spans_and_attributes_of_the_program_belong_to_the_root_call() -> None:
    with capture_spans(PHASES) as captured:
        train(MLP(captured.provider.get_tracer("program")), 1)
    step = captured.trees[0]
    (forward,) = step.find("forward MLP")
    assert forward.attributes["seen"] is True
    assert step.outline().splitlines()[:3] == [
        "train.step",
        "  forward MLP",
        "    of the program",
    ]


def test_an_error_is_told_on_the_root_call() -> None:
    class Failing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("no")

    model = nn.Sequential(nn.Linear(4, 4), Failing())
    with capture_spans(PHASES) as captured:
        with pytest.raises(ValueError, match=r"^no$"):
            model(torch.randn(2, 4))
        train(nn.Linear(4, 4), 1)
    failed, following = captured.trees
    assert failed.outline() == "train.step\n  forward Sequential"
    assert [span.span.status.is_ok for span in failed.walk()] == [False, False]
    assert [event.name for event in failed.children[0].span.events] == ["exception"]
    assert following.outline().splitlines()[1] == "  forward Linear"


def test_a_root_that_is_left_out_has_no_span() -> None:
    with capture_spans(Config(detail_ranks="1", exclude=("Sequential",))) as captured:
        train(nn.Sequential(nn.Linear(4, 4)), 1)
    assert captured.outline() == "train.step\n  backward\n  optimizer.step SGD"


def test_losses_are_the_same() -> None:
    torch.manual_seed(1)
    model = MLP()
    start = {name: value.clone() for name, value in model.state_dict().items()}
    expected = train(model, 5)
    model.load_state_dict(start)
    with capture_spans(PHASES):
        assert all(map(torch.equal, train(model, 5), expected))


def test_a_rank_that_does_not_record_sends_nothing() -> None:
    with capture_spans(Config(ranks="1")) as captured:
        train(nn.Linear(4, 4), 2)
        nn.Linear(4, 4).eval()(torch.randn(2, 4))
    assert captured.spans == ()
