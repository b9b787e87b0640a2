"""Iterations whose optimizer does not step: it raised, a scaler skipped it, or the loop gave the batch up."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from otel_torch_modules import Config
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
    train,
)
from tests.support.small_training import step as step_of

Facts = tuple[object, object, object, str]


def steps(captured: Captured) -> list[Facts]:
    """Return number, micro-batches, whether it was skipped, and status of each step."""
    return [
        (
            tree.attributes["torch.step"],
            tree.attributes["torch.step.micro_batches"],
            tree.attributes.get("torch.step.skipped", False),
            tree.span.status.status_code.name,
        )
        for tree in captured.trees
        if tree.name == "train.step"
    ]


def whole(index: int) -> Facts:
    return index, 1, False, "UNSET"


class ClosureError(RuntimeError):
    """An error of a program's closure."""


def sgd_(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.01)


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=0.01)


def lbfgs(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.LBFGS(model.parameters(), lr=0.01, max_iter=1)


@pytest.mark.parametrize("other", [False, True], ids=["own", "another"])
@pytest.mark.parametrize("make", [sgd_, adam, lbfgs])
@pytest.mark.parametrize("before", [False, True], ids=["at once", "after backward"])
def test_a_closure_that_raises_breaks_its_step_and_no_other(
    make: Callable[[nn.Module], torch.optim.Optimizer], other: bool, before: bool
) -> None:
    model = Net()
    own = make(model)
    raising = torch.optim.Adagrad(model.parameters()) if other else own

    def fail() -> Tensor:
        if before:
            model(batch()).sum().backward()
        raise ClosureError

    def good() -> Tensor:
        own.zero_grad()
        loss: Tensor = model(batch()).sum()
        loss.backward()
        return loss

    with capture_spans() as captured:
        for index in range(20):
            if index not in (3, 9):
                own.step(good)
                continue
            model(batch()).sum().backward()
            with pytest.raises(ClosureError):
                raising.step(fail)
    calls = 2 if before else 1
    assert steps(captured) == [
        (index, calls, False, "ERROR") if index in (3, 9) else whole(index) for index in range(20)
    ]
    name = "Adagrad" if other else type(own).__name__
    below = FORWARD + BACKWARD if before else ""
    assert captured.trees[3].outline() + "\n" == step_of(FORWARD, BACKWARD, optimizer(name, below))


def test_a_step_that_raises_within_another_breaks_it() -> None:
    class Outer(torch.optim.SGD):
        fails = True

        def step(self, closure: object = None) -> None:  # type: ignore[override]
            if self.fails:
                inner.step(fail)
            super().step()

    def fail() -> float:
        raise ClosureError

    model = Net()
    inner = torch.optim.Adam(model.parameters())
    outer = Outer(model.parameters(), lr=0.01)
    with capture_spans() as captured:
        for index in range(4):
            model(batch()).sum().backward()
            outer.fails = index == 1
            try:
                outer.step()
            except ClosureError:
                assert index == 1
    assert steps(captured) == [whole(0), (1, 1, False, "ERROR"), whole(2), whole(3)]


def test_one_that_raised_and_is_tried_again_is_one_step() -> None:
    model = Net()
    sgd = sgd_(model)
    fails = [True]

    def closure() -> float:
        if fails and fails.pop():
            raise ClosureError
        return 0.0

    with capture_spans() as captured:
        for _ in range(3):
            model(batch()).sum().backward()
            try:
                sgd.step(closure)
            except ClosureError:
                sgd.step(closure)
    assert outline(captured) == 3 * STEP


@pytest.mark.parametrize("unscale", [False, True])
def test_a_scaler_that_skips_ends_the_step_and_says_so(unscale: bool) -> None:
    model = Net()
    nn.init.ones_(
        model.fc.weight
    )  # an activation that lets nothing through has no infinite gradient
    sgd = sgd_(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    skipped = (0, 7, 8)
    with capture_spans() as captured:
        for index in range(20):
            loss = model(batch()).sum() * (float("inf") if index in skipped else 1e-3)
            scaler.scale(loss).backward()
            if unscale:
                scaler.unscale_(sgd)
            scaler.step(sgd)
            scaler.update()
            sgd.zero_grad()
    assert steps(captured) == [(index, 1, index in skipped, "UNSET") for index in range(20)]
    without = step_of(FORWARD, BACKWARD)
    assert outline(captured) == "".join(
        without if index in skipped else STEP for index in range(20)
    )


def test_a_scaler_that_is_off_or_skips_one_of_two_optimizers() -> None:
    first, second = Net(), Net()
    for model in first, second:
        nn.init.ones_(model.fc.weight)
    optimizers = sgd_(first), adam(second)
    with capture_spans() as captured:
        for enabled, factor in ((False, 1.0), (True, 1.0), (True, float("inf"))):
            scaler = torch.amp.GradScaler("cpu", enabled=enabled, init_scale=8.0)
            scaler.scale(first(batch()).sum() + second(batch()).sum() * factor).backward()
            for one in optimizers:
                scaler.step(one)
            scaler.update()
            for one in optimizers:
                one.zero_grad()
    assert [
        (index, skipped, [child.name for child in tree.children if "optimizer" in child.name])
        for tree, (index, _, skipped, _) in zip(captured.trees, steps(captured), strict=True)
    ] == [
        (0, False, ["optimizer.step SGD", "optimizer.step Adam"]),
        (1, False, ["optimizer.step SGD", "optimizer.step Adam"]),
        (2, True, ["optimizer.step SGD"]),
    ]


BAD = (5, 6, 11)


@pytest.mark.parametrize("by", ["optimizer", "model"])
@pytest.mark.parametrize("when", ["first", "tutorial", "last"])
@pytest.mark.parametrize("accumulated", [1, 4])
def test_a_bad_batch_whose_gradients_are_dropped_is_a_step_of_its_own(
    by: str, when: str, accumulated: int
) -> None:
    model = Net()
    sgd = sgd_(model)
    owner = sgd if by == "optimizer" else model
    with capture_spans() as captured:
        for index in range(14):
            if when == "first":
                owner.zero_grad()
            for number in range(accumulated):
                loss = model(batch()).sum()
                if when == "tutorial" and number == 0:
                    owner.zero_grad()
                loss.backward()
            if index in BAD:
                if when == "last":
                    owner.zero_grad()
                continue
            sgd.step()
            if when == "last":
                owner.zero_grad()
    assert steps(captured) == [(index, accumulated, index in BAD, "UNSET") for index in range(14)]


@pytest.mark.parametrize("drops", [False, True])
def test_batches_that_are_left_at_the_end_of_the_data(drops: bool) -> None:
    """Fewer than make a step: where their gradients are dropped they are one, else they are the next one's."""
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans(Config(max_depth=1)) as captured:
        for _ in range(2):
            if drops:
                sgd.zero_grad()
            for number, inputs in enumerate(loader(5)):
                model(inputs).sum().backward()
                if number % 2:
                    sgd.step()
                    sgd.zero_grad()
    found = [
        (tree.attributes["torch.step.micro_batches"], tree.attributes.get("torch.step.skipped"))
        for tree in captured.trees
    ]
    if drops:
        assert found == [(2, None), (2, None), (1, True), (2, None), (2, None), (1, None)]
    else:
        assert found == [(2, None), (2, None), (3, None), (2, None), (1, None)]


def test_gradients_that_are_dropped_within_a_step_do_not_end_it() -> None:
    """Sharpness-aware minimization: two forwards and backward passes for each step, gradients dropped between."""
    model = Net()
    sgd = sgd_(model)
    with capture_spans() as captured:
        for _ in range(6):
            for _ in range(2):
                sgd.zero_grad()
                model(batch()).sum().backward()
            sgd.step()
    assert steps(captured) == [(index, 2, False, "UNSET") for index in range(6)]


def attack(model: nn.Module, _: torch.optim.Optimizer) -> None:
    """Look for an input that the model gets wrong."""
    inputs = batch().requires_grad_()
    torch.autograd.grad(model(inputs).sum(), inputs)


def attack_by_backward(model: nn.Module, _: torch.optim.Optimizer) -> None:
    """The same, its gradient left with the input."""
    inputs = batch().requires_grad_()
    model(inputs).sum().backward(inputs=[inputs])


def virtual_attack(model: nn.Module, _: torch.optim.Optimizer) -> None:
    """The same by a perturbation that is a leaf; its backward leaves gradients with all parameters, too."""
    perturbation = torch.zeros(2, 4, requires_grad=True)
    model(batch() + perturbation).sum().backward()
    assert perturbation.grad is not None


def attack_by_sign(model: nn.Module, _: torch.optim.Optimizer) -> None:
    """The same where the input is the leaf: the fast gradient sign method."""
    inputs = batch().requires_grad_()
    model(x=inputs).sum().backward()
    assert inputs.grad is not None


def jacobian(model: nn.Module, _: torch.optim.Optimizer) -> None:
    """Differentiate by a function transform."""
    torch.func.jacrev(model)(batch())


def ascent(model: nn.Module, _: torch.optim.Optimizer) -> None:
    """Climb along the gradients, as sharpness-aware minimization does."""
    model(batch()).sum().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(parameter.grad, alpha=0.05)  # type: ignore[arg-type]


def look_ahead(model: nn.Module, sgd: torch.optim.Optimizer) -> None:
    """Make a step by hand whose gradients are the next one's, as extragradient methods do."""
    sgd.zero_grad()
    model(batch()).sum().backward()
    with torch.no_grad():
        torch._foreach_add_(
            [*model.parameters()], [p.grad for p in model.parameters()], alpha=-0.01
        )  # type: ignore[arg-type]


@pytest.mark.parametrize("plain", [0, 9], ids=["from the start", "after plain steps"])
@pytest.mark.parametrize("detail", ["all", "1"], ids=["modules", "phases only"])
@pytest.mark.parametrize("when", ["forward", "backward"])
@pytest.mark.parametrize(
    "first",
    [attack, attack_by_backward, virtual_attack, attack_by_sign, jacobian, ascent, look_ahead],
)
def test_what_uses_gradients_before_others_are_taken_is_in_the_same_step(
    first: Callable[[nn.Module, torch.optim.Optimizer], None],
    when: str,
    detail: str,
    plain: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    torch.compile(lambda x: x, backend="eager")(torch.ones(1))  # which is no optimizer
    model = Net()
    sgd = sgd_(model)
    with capture_spans(Config(detail_ranks=detail)) as captured:
        for _ in range(plain):
            train(model, sgd)
        for _ in range(4):
            first(model, sgd)
            if when == "forward":
                sgd.zero_grad()
            loss = model(batch()).sum()
            if when == "backward":
                sgd.zero_grad()
            loss.backward()
            sgd.step()
    trained = [whole(index) for index in range(plain)]
    several = [(index, 2, False, "UNSET") for index in range(plain, plain + 4)]
    assert steps(captured) == trained + several
    assert [record for record in caplog.records if "otel" in record.name] == []


@pytest.mark.parametrize("plain", [0, 4], ids=["from the start", "after plain steps"])
@pytest.mark.parametrize("when", ["forward", "backward"])
@pytest.mark.parametrize("at_last", [False, True])
def test_gradients_that_are_dropped_of_a_batch_that_is_trained_then_are_no_step(
    when: str, at_last: bool, plain: int
) -> None:
    """How noisy they are, a probe of the learning rate: whatever for, the loop has not waited for another batch."""
    model = Net()
    sgd = sgd_(model)
    loader = DataLoader(torch.ones(16, 4), batch_size=2)  # type: ignore[arg-type]
    with capture_spans() as captured:
        for number, inputs in enumerate(loader):
            if number >= plain:
                model(inputs).sum().backward()
                if when == "forward":
                    sgd.zero_grad()
                with torch.no_grad():
                    model(inputs)
            loss = model(inputs).sum()
            if when == "backward":
                sgd.zero_grad()
            loss.backward()
            sgd.step()
            if at_last:
                sgd.zero_grad()
    assert [(index, skipped) for index, _, skipped, _ in steps(captured)] == [
        (index, False) for index in range(8)
    ]


def test_gradients_of_each_loss_are_asked_for_alone() -> None:
    """Gradient surgery: several backward passes of one forward, gradients dropped between."""
    model = Net()
    sgd = sgd_(model)
    with capture_spans() as captured:
        for _ in range(4):
            output = model(batch())
            for column in range(3):
                sgd.zero_grad()
                output[:, column].sum().backward(retain_graph=True)
            sgd.step()
    assert steps(captured) == [whole(index) for index in range(4)]


@pytest.mark.parametrize("why", ["gradients dropped", "the optimizer raised", "no optimizer"])
def test_the_wait_for_the_next_batch_is_the_next_steps(why: str) -> None:
    """Where the next forward alone shows that the step before it was over."""
    model = Net()
    sgd = sgd_(model)
    loader = DataLoader(torch.ones(14, 4), batch_size=2)  # type: ignore[arg-type]

    def raises() -> float:
        raise ClosureError

    with capture_spans(Config(max_depth=1)) as captured:
        for number, inputs in enumerate(loader):
            model(inputs).sum().backward()
            if why == "no optimizer":
                del sgd.param_groups[:]
            elif number not in (3, 5):
                sgd.step()
            elif why == "the optimizer raised":
                with pytest.raises(ClosureError):
                    sgd.step(raises)
            sgd.zero_grad()
    whole = "train.step\n  dataloader.next\n  forward Net\n  backward\n    backward Net\n"
    outline(captured)  # no child sticks out of its parent
    found = [tree.outline().partition("  optimizer.step")[0].rstrip() for tree in captured.trees]
    assert found == 7 * [whole.rstrip()]
