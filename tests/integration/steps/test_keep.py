"""``KEEP``: of most steps the phases are sent, of a few all; what of them asks first."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from opentelemetry import trace
from torch import Tensor, nn

from otel_torch_modules import Config, Keep, Schedule
from otel_torch_modules.testing import Captured, CapturedSpan, capture_spans

PHASES = """train.step
  forward Model
  backward
    backward Model
  optimizer.step SGD"""
WHOLE = """train.step
  forward Model
    forward first
    forward second
  backward
    backward Model
      backward second
      backward first
  optimizer.step SGD"""
NOTHING_KEPT = Keep()


class Model(nn.Module):
    def __init__(self, happens: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.happens = happens
        self.second.register_forward_hook(lambda *_: self.happens())

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))  # type: ignore[no-any-return]


class Training:
    """A loop whose steps may have something happen in the module `second`."""

    def __init__(self) -> None:
        self.happens: Callable[[], None] = lambda: None
        self.model = Model(lambda: self.happens())
        self._optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)

    def step(self, happens: Callable[[], None] = lambda: None) -> None:
        self.happens = happens
        self.model(torch.ones(2, 4, requires_grad=True)).sum().backward()
        self._optimizer.step()

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.step()


def outline(step: CapturedSpan) -> str:
    """Return its tree without what comes and goes."""
    return "\n".join(
        line for line in step.outline().splitlines() if line.strip() not in ("between", "python.gc")
    )


def kept(captured: Captured) -> dict[int, str]:
    """Return which steps are there with all their modules, and why; all others have to be there in phases."""
    found = {}
    for tree in captured.trees:
        number, why = tree.attributes["torch.step"], tree.attributes.get("torch.step.kept")
        assert outline(tree) == (PHASES if why is None else WHOLE)
        if why is not None:
            found[number] = why
    return found  # type: ignore[return-value]


def test_a_slow_step_is_there_in_full_with_how_slow_it_was() -> None:
    training = Training()
    with capture_spans(Config(keep=Keep(slow=20.0))) as captured:
        training.steps(12)
        training.step(lambda: time.sleep(1.0))
        training.steps(2)
    assert len(captured.trees) == 15
    slow = captured.trees[12]
    assert outline(slow) == WHOLE
    assert slow.attributes["torch.step.kept"] == "slow"
    slowdown = slow.attributes["torch.step.slowdown"]
    assert isinstance(slowdown, float)
    assert slowdown > 20.0
    assert kept(captured)[12] == "slow"


def test_the_first_and_every_so_many() -> None:
    with capture_spans(Config(keep=Keep(every=4, first=2))) as captured:
        Training().steps(10)
    assert kept(captured) == {0: "first", 1: "first", 4: "every", 8: "every"}
    assert all("torch.step.slowdown" not in tree.attributes for tree in captured.trees)


def test_a_step_that_fails_is_there_in_full() -> None:
    def fail() -> None:
        raise ValueError("no")

    training = Training()
    with capture_spans(Config(keep=NOTHING_KEPT)) as captured:
        training.steps(2)
        with pytest.raises(ValueError, match="no"):
            training.step(fail)
    failed = captured.trees[-1]
    assert failed.attributes["torch.step.kept"] == "failed"
    assert outline(failed).splitlines() == WHOLE.splitlines()[:4]
    assert [event.name for span in failed.walk() for event in span.span.events] == ["exception"]


def test_a_module_that_the_program_has_asked_for_stays_and_nothing_else_of_the_step() -> None:
    training = Training()
    with capture_spans(Config(keep=NOTHING_KEPT)) as captured:
        tracer = captured.provider.get_tracer("program")

        def speak() -> None:
            with tracer.start_as_current_span("of the program"):
                pass

        for _ in range(2):
            training.step(speak)
        training.step()
    spoken = """train.step
  forward Model
    forward second
      of the program
  backward
    backward Model
      backward second
  optimizer.step SGD"""
    assert [outline(tree) for tree in captured.trees] == [spoken, spoken, PHASES]


def test_what_is_said_of_the_step_is_there_and_keeps_no_module() -> None:
    training = Training()
    with capture_spans(Config(keep=NOTHING_KEPT)) as captured:
        for loss in range(3):
            training.model(torch.ones(2, 4, requires_grad=True)).sum().backward()
            trace.get_current_span().set_attribute("loss", loss)
            training._optimizer.step()
    assert [tree.attributes["loss"] for tree in captured.trees] == [0, 1, 2]
    assert kept(captured) == {}


def test_evaluations_too() -> None:
    training = Training()
    with capture_spans(Config(keep=Keep(first=1))) as captured:
        for _ in range(2):
            training.step()
            with torch.no_grad():
                training.model.eval()(torch.ones(2, 4))
            training.model.train()
    evaluations = [tree for tree in captured.trees if tree.name == "evaluate"]
    assert [tree.attributes.get("torch.step.kept") for tree in evaluations] == ["first", None]
    whole = ["evaluate", "  forward Model", "    forward first", "    forward second"]
    assert [outline(tree).splitlines() for tree in evaluations] == [whole, whole[:2]]


@pytest.mark.parametrize("model", [Model, lambda: nn.Linear(4, 4)])
def test_the_forwards_of_a_process_that_serves_too(model: Callable[[], nn.Module]) -> None:
    served = model().eval()
    with capture_spans(Config(keep=Keep(every=5))) as captured, torch.no_grad():
        for _ in range(10):
            served(torch.ones(2, 4))
    reasons = [tree.attributes.get("torch.step.kept") for tree in captured.trees]
    assert reasons == ["every", None, None, None, None] * 2
    assert [len(tree.children) for tree in captured.trees] == (
        [2, 0, 0, 0, 0] * 2 if model is Model else [0] * 10
    )


BASE = Config(keep=Keep(first=3, every=6))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        # Alone: all steps are recorded with modules.
        (BASE, {0: "first", 1: "first", 2: "first", 6: "every", 12: "every", 18: "every"}),
        # SCHEDULE asks first, and steps are counted as it counts them.
        (
            replace(BASE, schedule=Schedule(skip_first=2, wait=1, active=1)),
            {3: "first", 5: "first", 7: "first", 15: "every"},
        ),
        # What DETAIL_RANKS leaves without modules has none to keep, with a schedule and without.
        (replace(BASE, detail_ranks="1"), {}),
        (replace(BASE, detail_ranks="1", schedule=Schedule(wait=1, active=1)), {}),
        # Where MAX_OVERHEAD is reached at once, the first four steps have modules.
        (replace(BASE, max_overhead=1e-9), {0: "first", 1: "first", 2: "first"}),
        (
            replace(BASE, max_overhead=1e-9, schedule=Schedule(wait=1, active=1)),
            {1: "first", 3: "first", 5: "first"},
        ),
        (replace(BASE, max_overhead=1e-9, detail_ranks="1"), {}),
    ],
)
def test_who_asks_first(config: Config, expected: dict[int, str]) -> None:
    with capture_spans(config) as captured:
        Training().steps(19)
    assert kept(captured) == expected


def test_what_ranks_and_phases_leave_out_is_not_there() -> None:
    for config in (replace(BASE, ranks="1"), replace(BASE, phases=("eval",))):
        with capture_spans(config) as captured:
            Training().steps(3)
        assert captured.spans == ()
