"""Where a step begins and ends in the loops that people write."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from otel_torch_modules import Config
from otel_torch_modules.testing import capture_spans
from tests.support.passing_time import since_epoch
from tests.support.small_training import (
    BACKWARD,
    FORWARD,
    STEP,
    Net,
    batch,
    evaluation,
    optimizer,
    outline,
    step,
    train,
)


def sgd(*models: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD([p for model in models for p in model.parameters()], lr=0.01)


def test_micro_batches_that_are_accumulated_are_one_step() -> None:
    model = Net()
    optimizer_ = sgd(model)
    with capture_spans(Config(causes=(), device_time="off")) as captured:
        for _ in range(2):
            for _ in range(3):
                model(batch()).sum().backward()
            optimizer_.step()
    assert outline(captured) == 2 * step(3 * (FORWARD + BACKWARD), optimizer())
    attributes = [tree.attributes for tree in captured.trees]
    assert attributes == [
        {"torch.phase": "step", "torch.step": 0, "torch.step.micro_batches": 3},
        {"torch.phase": "step", "torch.step": 1, "torch.step.micro_batches": 3},
    ]


def test_several_optimizers_in_a_row_are_one_step() -> None:
    model = Net()
    first, second = sgd(model), torch.optim.Adam(model.parameters())
    with capture_spans() as captured:
        for _ in range(2):
            model(batch()).sum().backward()
            first.step()
            second.step()
    assert outline(captured) == 2 * step(FORWARD, BACKWARD, optimizer("SGD"), optimizer("Adam"))


def test_an_optimizer_that_calls_the_one_it_wraps_has_it_below() -> None:
    class Lookahead(torch.optim.Optimizer):
        def __init__(self, inner: torch.optim.Optimizer) -> None:
            super().__init__(inner.param_groups, {})
            self.inner = inner

        def step(self, closure: object = None) -> None:  # type: ignore[override]
            self.inner.step()

    model = Net()
    outer = Lookahead(sgd(model))
    with capture_spans() as captured:
        for _ in range(2):
            train(model, outer)
    assert outline(captured) == 2 * step(
        FORWARD, BACKWARD, optimizer("Lookahead", optimizer("SGD"))
    )
    inner = [tree.children[-1].children[0] for tree in captured.trees]
    assert [span.attributes.get("torch.phase.parent") for span in inner] == ["optimizer"] * 2


def test_an_optimizer_that_calls_its_base_class_is_one() -> None:
    class Clipping(torch.optim.SGD):
        def step(self, closure: object = None) -> None:  # type: ignore[override]
            super().step()

    model = Net()
    train(model, sgd(model))  # only now SGD's own step has hooks
    clipping = Clipping(model.parameters(), lr=0.01)
    with capture_spans() as captured:
        for _ in range(2):
            train(model, clipping)
    assert outline(captured) == 2 * step(FORWARD, BACKWARD, optimizer("Clipping"))


def test_forwards_in_a_closure_lie_below_the_optimizer() -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    target = torch.randn(2, 1)
    inputs = torch.randn(2, 4)
    lbfgs = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3)
    calls = []

    def closure() -> Tensor:
        calls.append(None)
        lbfgs.zero_grad()
        loss = ((model(inputs) - target) ** 2).sum()
        loss.backward()
        return loss

    evaluated = []
    with capture_spans() as captured:
        for _ in range(2):
            calls.clear()
            lbfgs.step(closure)
            evaluated.append(len(calls))
    assert evaluated == [3, 3]
    once = "forward Linear\nbackward\n  backward Linear\n"
    assert outline(captured) == 2 * step(optimizer("LBFGS", 3 * once))
    # So that whoever sums by phase can tell the optimizer's own part.
    marked = [
        (child.name, child.attributes.get("torch.phase.parent"))
        for tree in captured.trees
        for lbfgs_step in tree.children
        for child in (lbfgs_step, *lbfgs_step.children)
    ]
    inside = 3 * [("forward Linear", "optimizer"), ("backward", "optimizer")]
    assert marked == 2 * [("optimizer.step LBFGS", None), *inside]
    below = [
        span.attributes.get("torch.phase.parent")
        for tree in captured.trees
        for lbfgs_step in tree.children
        for child in lbfgs_step.children
        for span in child.children
    ]
    assert below == 6 * [None]


def test_a_grad_scaler_steps_through_to_the_optimizer() -> None:
    model = Net()
    optimizer_ = sgd(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    with capture_spans() as captured:
        for _ in range(2):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = model(batch()).sum()
            scaler.scale(loss).backward()
            scaler.step(optimizer_)
            scaler.update()
            optimizer_.zero_grad()
    assert outline(captured) == 2 * STEP


def test_optimizers_that_step_inside_backward_are_one_step() -> None:
    model = Net()
    optimizers = {p: torch.optim.SGD([p], lr=0.01) for p in model.parameters()}

    def update(parameter: Tensor) -> None:
        optimizers[parameter].step()
        optimizers[parameter].zero_grad()

    hooks = [each.register_post_accumulate_grad_hook(update) for each in model.parameters()]
    with capture_spans() as captured:
        for _ in range(2):
            model(batch()).sum().backward()
    for hook in hooks:  # else the optimizers would never go
        hook.remove()
    expected = """\
train.step
  forward Net
    forward fc
    forward act
  backward
    backward Net
      backward act
      backward fc
        optimizer.step SGD
        optimizer.step SGD
"""
    assert outline(captured) == 2 * expected


def test_evaluation_between_epochs_has_traces_of_its_own() -> None:
    model = Net()
    optimizer_ = sgd(model)
    after_steps = []
    with capture_spans() as captured:
        for _ in range(2):
            model.train()
            train(model, optimizer_)
            after_steps.append(since_epoch())
            model.eval()
            with torch.no_grad():
                model(batch())
                model(batch())
    assert outline(captured) == 2 * (STEP + evaluation(2 * FORWARD))
    trees = captured.trees
    assert len({tree.span.context.trace_id for tree in trees}) == 4  # type: ignore[union-attr]
    ends = [tree.end for tree in trees if tree.name == "train.step"]
    assert all(end <= after for end, after in zip(ends, after_steps, strict=True))


def test_evaluation_with_grad_mode_on_is_no_step() -> None:
    model = Net().eval()
    with capture_spans() as captured:
        model(batch())
    assert outline(captured) == FORWARD
    assert captured.trees[0].span.kind.name == "PRODUCER"


def test_a_teacher_inside_a_step_belongs_to_it() -> None:
    class Teacher(Net):
        pass

    model, teacher = Net(), Teacher().eval()
    optimizer_ = sgd(model)
    with capture_spans() as captured:
        for _ in range(2):
            output = model(batch())
            with torch.no_grad():
                wanted = teacher(batch())
            ((output - wanted) ** 2).sum().backward()
            optimizer_.step()
    teaching = "forward Teacher\n  forward fc\n  forward act\n"
    assert outline(captured) == 2 * step(FORWARD, teaching, BACKWARD, optimizer())
    assert captured.trees[0].attributes["torch.step.micro_batches"] == 1


def test_a_criterion_belongs_to_the_step_and_is_no_micro_batch() -> None:
    model, criterion = Net(), nn.MSELoss()
    optimizer_ = sgd(model)
    with capture_spans() as captured:
        for _ in range(2):
            criterion(model(batch()), batch()).backward()
            optimizer_.step()
    expected = """\
train.step
  forward Net
    forward fc
    forward act
  forward MSELoss
  backward
    backward MSELoss
    backward Net
      backward act
      backward fc
  optimizer.step SGD
"""
    assert outline(captured) == 2 * expected
    assert [tree.attributes["torch.step.micro_batches"] for tree in captured.trees] == [1, 1]


def test_a_step_ends_with_its_last_optimizer() -> None:
    model = Net()
    first, second = sgd(model), sgd(model)
    after_steps = []
    with capture_spans() as captured:
        for _ in range(2):
            model(batch()).sum().backward()
            first.step()
            second.step()
            after_steps.append(since_epoch())
    for tree, after in zip(captured.trees, after_steps, strict=True):
        assert tree.children[-1].end <= tree.end <= after


def test_a_step_without_backward_is_a_step_all_the_same() -> None:
    model = Net()
    optimizer_ = sgd(model)
    with capture_spans() as captured:
        model(batch())
        optimizer_.step()
        train(model, optimizer_)
    assert outline(captured) == step(FORWARD, optimizer()) + STEP


def test_the_two_optimizers_of_a_gan_make_two_steps() -> None:
    class Critic(Net):
        pass

    maker, critic = Net(), Critic()
    makers, critics = sgd(maker), torch.optim.Adam(critic.parameters())
    with capture_spans() as captured:
        for _ in range(2):
            critic(maker(batch()).detach()).sum().backward()
            critics.step()
            critic(maker(batch())).sum().backward()
            makers.step()
    criticized = FORWARD.replace("Net", "Critic")
    critics_step = step(FORWARD, criticized, BACKWARD.replace("Net", "Critic"), optimizer("Adam"))
    makers_step = step(
        FORWARD,
        criticized,
        BACKWARD.replace("Net", "Critic") + "  backward Net\n    backward act\n    backward fc\n",
        optimizer(),
    )
    assert outline(captured) == 2 * (critics_step + makers_step)
