"""Which root forwards are training's: those that a backward comes to, whatever mode a module is in."""

from __future__ import annotations

from textwrap import indent

import pytest
import torch
from torch import Tensor, nn

from otel_torch_modules import Config, Schedule
from otel_torch_modules._engine.worker import Worker
from otel_torch_modules._records import Record
from otel_torch_modules.testing import Captured, capture_spans
from tests.support.small_training import (
    BACKWARD,
    FORWARD,
    STEP,
    Net,
    batch,
    loader,
    optimizer,
    outline,
    step,
    train,
)


class Wrapper(nn.Module):
    """Stays in evaluation mode when what it wraps is put back into training, as in Lightning with DDP."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.module(x)
        return output


def steps(captured: Captured) -> list[tuple[object, object]]:
    return [
        (tree.attributes["torch.step"], tree.attributes["torch.step.micro_batches"])
        for tree in captured.trees
        if tree.name == "train.step"
    ]


def outlines(captured: Captured, name: str) -> str:
    outline(captured)  # checks
    return "".join(tree.outline() + "\n" for tree in captured.trees if tree.name == name)


def test_a_wrapper_that_stays_in_evaluation_mode(model: Net, sgd: torch.optim.SGD) -> None:
    wrapper = Wrapper(model).eval()
    with capture_spans(Config(max_depth=1)) as captured:
        with torch.no_grad():
            wrapper(batch())  # a sanity check
        model.train()
        for _ in range(20):
            train(wrapper, sgd)
    assert steps(captured) == [(index, 1) for index in range(20)]
    whole = "forward Wrapper\nbackward\n  backward Wrapper\n"
    assert outline(captured) == "forward Wrapper\n" + 20 * step(whole, optimizer())


@pytest.mark.parametrize("views", [1, 2])
def test_a_model_trained_in_evaluation_mode(model: Net, sgd: torch.optim.SGD, views: int) -> None:
    model.eval()  # its batch norms are frozen
    with capture_spans(Config(max_depth=1)) as captured:
        for _ in range(4):
            torch.stack([model(batch()) for _ in range(views)]).sum().backward()
            sgd.step()
            sgd.zero_grad()
    assert steps(captured) == [(index, views) for index in range(4)]
    assert [len(tree.find("forward Net")) for tree in captured.trees] == 4 * [views]


@pytest.mark.parametrize(
    "config", [Config(schedule=Schedule(skip_first=2)), Config(phases=("train",))]
)
def test_steps_that_are_not_recorded_count(
    model: Net, sgd: torch.optim.SGD, config: Config
) -> None:
    model.eval()
    with capture_spans(config) as captured:
        for _ in range(5):
            train(model, sgd)
    assert steps(captured)[-3:] == [(2, 1), (3, 1), (4, 1)]


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_forwards_with_gradients_that_nobody_asks_for_are_no_steps(model: Net, mode: str) -> None:
    model.train(mode == "train")
    with capture_spans() as captured:
        for _ in range(40):
            model(batch())
    assert outline(captured) == 40 * FORWARD


@pytest.mark.parametrize("then", [None, nn.MSELoss()])
def test_a_server_in_training_mode_with_gradients_on_sends_each_request(
    model: Net, monkeypatch: pytest.MonkeyPatch, then: nn.Module | None
) -> None:
    """Once it has shown that no backward comes only the last few wait for one, whatever is called with the model."""
    put = Worker.put
    sent = []

    def put_and_count(worker: Worker, record: Record) -> bool:
        sent.append(record.kind)
        return put(worker, record)

    monkeypatch.setattr(Worker, "put", put_and_count)
    with capture_spans() as captured:
        for _ in range(120):
            output = model(batch())
            if then is not None:
                then(output, batch())
        assert len(sent) >= (116 if then is None else 232)
    each = FORWARD if then is None else FORWARD + "forward MSELoss\n"
    assert outline(captured) == 120 * each


@pytest.mark.parametrize("micro_batches", [1, 2])
@pytest.mark.parametrize("left", [1, 2, 3])
def test_forwards_after_the_last_step_are_one_if_no_step_has_as_many(
    model: Net, sgd: torch.optim.SGD, micro_batches: int, left: int
) -> None:
    with capture_spans(Config(max_depth=1)) as captured:
        for _ in range(3):
            for _ in range(micro_batches):
                model(batch()).sum().backward()
            sgd.step()
        for _ in range(left):  # of the model as it came out: gradients are on
            model(batch())
    last = captured.trees[-1]
    count = last.attributes.get("torch.evaluate.forwards")
    assert steps(captured)[:3] == [(index, micro_batches) for index in range(3)]
    if left > micro_batches:
        assert (last.name, count, len(captured.trees)) == ("evaluate", left, 4)
        assert last.attributes["torch.step"] == 2
    else:  # it may have been broken off
        assert steps(captured)[3:] == [(3, left)]


def test_many_forwards_for_one_backward_are_believed_from_the_second_step_on(
    model: Net, sgd: torch.optim.SGD
) -> None:
    with capture_spans(Config(max_depth=1)) as captured:
        for _ in range(3):
            h = batch()
            for _ in range(40):  # a recurrent cell
                h = model(h)
            h.sum().backward()
            sgd.step()
    assert steps(captured) == [(0, 4), (1, 40), (2, 40)]


def test_a_forward_before_the_loop_is_outside_the_first_step(
    model: Net, sgd: torch.optim.SGD
) -> None:
    loader = torch.utils.data.DataLoader(torch.ones(6, 4), batch_size=2)  # type: ignore[arg-type]
    with capture_spans() as captured:
        model(torch.zeros(1, 4))  # counts operations
        for inputs in loader:
            model(inputs).sum().backward()
            sgd.step()
    with_data = step("dataloader.next\n", FORWARD, BACKWARD, optimizer())
    assert outline(captured) == FORWARD + 3 * with_data
    assert steps(captured) == [(0, 1), (1, 1), (2, 1)]
    early, first, *_ = captured.trees
    assert early.end <= first.start == first.children[0].start


def test_a_forward_before_a_loop_without_a_loader(model: Net, sgd: torch.optim.SGD) -> None:
    with capture_spans() as captured:
        model(torch.zeros(1, 4))
        for _ in range(3):
            train(model, sgd)
    assert outline(captured) == FORWARD + 3 * STEP
    early, first, *_ = captured.trees
    assert early.end <= first.start


def test_all_forwards_that_a_backward_comes_to_are_the_steps(
    model: Net, sgd: torch.optim.SGD
) -> None:
    with capture_spans(Config(max_depth=1)) as captured:
        for _ in range(3):
            outputs = [model(batch()) for _ in range(3)]
            for output in outputs:  # the first first
                output.sum().backward()
            sgd.step()
    assert steps(captured) == [(0, 3), (1, 3), (2, 3)]


def test_a_forward_after_the_batch_is_the_steps_though_no_backward_comes_to_it(
    model: Net, sgd: torch.optim.SGD
) -> None:
    """Labels that the model makes itself."""
    loader = torch.utils.data.DataLoader(torch.ones(6, 4), batch_size=2)  # type: ignore[arg-type]
    with capture_spans() as captured:
        for inputs in loader:
            labels = model(inputs).detach()
            (model(inputs) - labels).sum().backward()
            sgd.step()
    assert outline(captured) == 3 * step("dataloader.next\n", 2 * FORWARD, BACKWARD, optimizer())


@pytest.mark.parametrize("grad", [False, True])
def test_a_target_network_belongs_to_the_step_that_it_leads_to(grad: bool) -> None:
    """Deep Q-learning: actions are chosen between steps, and the target is asked first."""

    class Q(Net):
        pass

    class Target(Net):
        pass

    model, target = Q(), Target().eval()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans(Config(max_depth=1)) as captured:
        for _ in range(3):
            with torch.set_grad_enabled(grad):
                for _ in range(4):
                    action = model(batch())
            with torch.no_grad():
                aim = target(batch())
            (model(batch()) - aim).sum().backward()
            sgd.step()
    whole = step("forward Target\nforward Q\nbackward\n  backward Q\n", optimizer())
    evaluation = "evaluate\n" + 4 * "  forward Q\n"
    assert outline(captured) == 4 * "forward Q\n" + whole + 2 * (evaluation + whole)
    assert steps(captured) == [(index, 1) for index in range(3)]
    assert action.requires_grad == grad


def test_a_value_network_that_a_rollout_asks_last_is_no_target() -> None:
    """Proximal policy optimization: it is trained itself, in the step that follows."""

    class Policy(Net):
        pass

    class Value(Net):
        pass

    policy, value = Policy(), Value()
    sgd = torch.optim.SGD([*policy.parameters(), *value.parameters()], lr=0.01)
    with capture_spans(Config(max_depth=1)) as captured:
        for _ in range(3):
            with torch.no_grad():
                for _ in range(4):
                    policy(batch())
                aim = value(batch())
            (policy(batch()) - aim + value(batch())).sum().backward()
            sgd.step()
    forwards = "forward Policy\nforward Value\n"
    whole = step(forwards, "backward\n  backward Value\n  backward Policy\n", optimizer())
    rollout = 4 * "forward Policy\n" + "forward Value\n"
    evaluation = "evaluate\n" + indent(rollout, "  ")
    assert outline(captured) == rollout + whole + 2 * (evaluation + whole)


def test_gradients_asked_for_in_an_evaluation_do_not_join_the_next_step(
    model: Net, sgd: torch.optim.SGD
) -> None:
    with capture_spans(Config(max_depth=1)) as captured:
        train(model, sgd)
        model.eval()
        for _ in range(3):  # attacks
            inputs = batch().requires_grad_()
            torch.autograd.grad(model(inputs).sum(), inputs)
        model.train()
        train(model, sgd)
    assert steps(captured) == [(0, 1), (1, 3), (2, 1)]


@pytest.mark.parametrize("attacks", [1, 3])
def test_an_attack_in_evaluation_mode_is_in_the_step_that_trains_on_it(
    model: Net, sgd: torch.optim.SGD, attacks: int
) -> None:
    with capture_spans(Config(max_depth=1)) as captured:
        for inputs in loader(3):
            model.eval()
            attacked = inputs
            for _ in range(attacks):
                attacked = attacked.detach().requires_grad_()
                attacked = attacked + torch.autograd.grad(model(attacked).sum(), attacked)[0]
            model.train()
            sgd.zero_grad()
            model(attacked.detach()).sum().backward()
            sgd.step()
    once = "forward Net\nbackward\n  backward Net\n"
    attack = attacks * once
    assert outline(captured) == 3 * step("dataloader.next\n", attack + once, optimizer())
    assert steps(captured) == [(index, attacks + 1) for index in range(3)]


def test_one_attack_without_a_loader_is_in_the_step_once_it_is_known_what_attacks() -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans(Config(max_depth=1)) as captured:
        for _ in range(4):
            model.eval()
            inputs = batch().requires_grad_()
            attacked = inputs + torch.autograd.grad(model(inputs).sum(), inputs)[0]
            model.train()
            sgd.zero_grad()
            model(attacked.detach()).sum().backward()
            sgd.step()
    assert steps(captured) == [(0, 1), (1, 1), (2, 2), (3, 2), (4, 2)]


def test_attacks_on_batches_of_an_evaluation_are_not_in_the_step_that_follows() -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans(Config(max_depth=1)) as captured:
        for _ in range(2):
            model.train()
            for inputs in loader(2):
                sgd.zero_grad()
                model(inputs).sum().backward()
                sgd.step()
            model.eval()
            for inputs in loader(2):
                inputs.requires_grad_()
                torch.autograd.grad(model(inputs).sum(), inputs)
    assert [(tree.find("optimizer.step SGD") != []) for tree in captured.trees] == [
        True, True, False, True, True, False
    ]  # fmt: skip


def test_a_backward_within_the_forward_of_the_root() -> None:
    """Manual optimization in a module that is in no training mode."""

    class Manual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()
            self.sgd = torch.optim.SGD(self.net.parameters(), lr=0.01)

        def forward(self, x: Tensor) -> None:
            self.net(x).sum().backward()
            self.sgd.step()

    model = Manual().eval()
    with capture_spans() as captured:
        for _ in range(3):
            model(batch())
    assert steps(captured) == [(0, 1), (1, 1), (2, 1)]
    once, again, last = captured.trees
    assert once.outline() == again.outline() == last.outline()
