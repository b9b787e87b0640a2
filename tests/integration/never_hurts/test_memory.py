"""Nothing of the program is kept alive by us, and what we keep is bounded."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from otel_torch_modules import Config, Schedule, _tracing
from otel_torch_modules._engine.engine import Engine
from otel_torch_modules._recording.loop.steps import Steps
from otel_torch_modules._recording.modules.fqn import ModuleSites
from otel_torch_modules._recording.recorder import Recorder
from otel_torch_modules._records import Record
from otel_torch_modules.testing import capture_spans
from tests.support.small_training import Net, batch, train


@pytest.fixture
def _no_collection() -> Iterator[None]:
    """What dies in the test dies because nothing refers to it, not because the collector came."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def living(kind: type) -> list[Any]:
    """Return all objects of a class of ours that somebody refers to."""
    gc.collect()
    return [item for item in gc.get_objects() if type(item) is kind]


class Watched(nn.Module):
    """Remembers its activation, weakly."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.seen: list[weakref.ref[Tensor]] = []

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.fc(x)
        self.seen.append(weakref.ref(hidden))
        return hidden.relu()


@pytest.mark.usefixtures("_no_collection")
def test_activations_outputs_and_gradients_die_with_the_step() -> None:
    model = Watched()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans(Config(record_shapes=True)):
        inputs = batch().requires_grad_()
        output = model(inputs)
        kept = [weakref.ref(inputs), weakref.ref(output)]
        output.sum().backward()
        kept.append(weakref.ref(inputs.grad))
        del inputs, output
        assert [ref() for ref in kept + model.seen] == 4 * [None]
        sgd.step()


@pytest.mark.usefixtures("_no_collection")
def test_a_forward_without_backward_keeps_nothing() -> None:
    model = Watched()
    with capture_spans():
        output = model(batch())
        kept = [weakref.ref(output), *model.seen]
        del output
        assert [ref() for ref in kept] == [None, None]


@pytest.mark.usefixtures("_no_collection")
def test_a_model_and_its_optimizer_can_be_dropped_in_the_middle_of_a_step() -> None:
    with capture_spans() as captured:
        model = Net()
        sgd = torch.optim.SGD(model.parameters(), lr=0.01)
        train(model, sgd)
        loss = model(batch()).sum()
        kept = [weakref.ref(module) for module in model.modules()]
        kept_optimizer = weakref.ref(sgd)
        del model, sgd
        gc.collect()  # torch's optimizers are in cycles of their own
        assert [ref() for ref in kept] == 3 * [None]
        assert kept_optimizer() is None
        loss.backward()
    names = [span.name for tree in captured.trees for span in tree.walk()]
    assert names.count("backward Net") == 2


def test_an_exception_and_what_its_frames_hold_are_let_go() -> None:
    class OwnError(Exception):
        pass

    class Raising(Watched):
        def forward(self, x: Tensor) -> Tensor:
            hidden = super().forward(x)
            raise OwnError(str(hidden.shape))

    model = Raising()
    with capture_spans():
        try:
            model(batch())
        except OwnError as error:
            kept = weakref.ref(error)
        gc.collect()
        assert kept() is None
        assert model.seen[0]() is None


def test_records_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)

    before = len(living(Record))
    with capture_spans() as captured:
        for _ in range(300):
            train(model, sgd)
        with torch.no_grad():
            for _ in range(300):
                model(batch())
        captured.provider.force_flush()
    assert len(living(Record)) == before
    monkeypatch.setattr(_tracing, "_MOST_LEFT_OUT", 50)
    with capture_spans(Config(schedule=Schedule(wait=1_000, active=1))):
        for _ in range(300):
            train(model, sgd)
        # Steps that are left out wait, with nothing in them, for a worker that may tell metrics of them.
        assert len(living(Record)) <= before + 1 + 50


def test_modules_made_as_the_program_runs_do_not_pile_up() -> None:
    class Making(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return nn.Softmax(dim=-1)(self.fc(x))

    model = Making()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    others = living(ModuleSites)
    with capture_spans():
        for _ in range(50):
            train(model, sgd)
        (sites,) = [found for found in living(ModuleSites) if found not in others]
        assert len(sites.by_id) <= 3


def test_nothing_of_ours_lives_on_when_tracing_is_off() -> None:
    model = Net()
    kinds = (Recorder, Steps, Engine)
    before = [len(living(kind)) for kind in kinds]  # Dynamo may keep what it once traced through
    with capture_spans():
        train(model, torch.optim.SGD(model.parameters(), lr=0.01))
        assert [len(living(kind)) for kind in kinds] == [number + 1 for number in before]
    assert [len(living(kind)) for kind in kinds] == before
