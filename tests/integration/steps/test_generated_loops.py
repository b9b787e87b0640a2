"""Each step of an optimizer is one step, whatever else a loop calls, drops, evaluates and leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import DataLoader

from otel_torch_modules import Config, Schedule
from otel_torch_modules.testing import capture_spans
from tests.support.small_training import Net, batch, by_hand, evaluation, outline, step

Call = Callable[[Tensor], object]


pytestmark = pytest.mark.usefixtures("only_own_optimizers")


class Teacher(nn.Module):
    """Has parameters that nobody trains."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


def _until_the_next(kind: type[nn.Module]) -> Call:
    last: list[nn.Module] = []

    def call(x: Tensor) -> object:
        last[:] = [kind()]
        return last[0](x)

    return call


LEADING: dict[str, Callable[[], Call]] = {
    "Dropout": nn.Dropout,
    "Teacher": Teacher,
    "Flatten": lambda: lambda x: nn.Flatten()(x),
    "Identity": lambda: _until_the_next(nn.Identity),
}
CRITERIA: dict[str, Callable[[], Callable[..., Tensor]]] = {
    "MSELoss": nn.MSELoss,
    "L1Loss": lambda: lambda x: nn.L1Loss()(x, x.detach()),
}


class Critic(Net):
    """A second model that is trained."""


class Loop(NamedTuple):
    """A training loop, and what of it is recorded."""

    leading: list[str]
    """What is called before each forward of the model."""
    called_once: list[str]
    """What is called once, before the loop."""
    targets: int
    """Modules that are called without gradients before those."""
    criterion: str | None
    phases: list[int]
    """The micro-batches of each optimizer's step in an iteration."""
    iterations: int
    optimizers: int
    """How many step one after the other."""
    loads: bool
    clears_first: bool
    evaluated: int
    """Forwards of the model after each iteration."""
    evaluates_in_training_mode: bool
    trains_in_training_mode: bool
    schedule: Schedule


def _recognized(loop: Loop) -> Loop:
    """Return `loop` without what would lead to its first step: in evaluation mode that shows in its backward."""
    if loop.trains_in_training_mode:
        return loop
    return loop._replace(targets=0, called_once=[])


loops = st.builds(
    Loop,
    leading=st.lists(st.sampled_from([*LEADING]), max_size=2, unique=True),
    called_once=st.lists(st.sampled_from([*LEADING]), max_size=1),
    targets=st.integers(0, 2),
    criterion=st.sampled_from([None, "MSELoss", "L1Loss"]),
    phases=st.lists(st.integers(1, 5), min_size=1, max_size=2),
    iterations=st.integers(1, 3),
    optimizers=st.integers(1, 2),
    loads=st.booleans(),
    clears_first=st.booleans(),
    evaluated=st.integers(0, 2),
    evaluates_in_training_mode=st.booleans(),
    trains_in_training_mode=st.booleans(),
    schedule=st.sampled_from(
        [
            Schedule(),
            Schedule(skip_first=1),
            Schedule(skip_first=2),
            Schedule(wait=1, active=1),
            Schedule(wait=2, active=2),
        ]
    ),
).map(_recognized)


def run(loop: Loop) -> None:
    """Train, and leave nothing behind."""
    models = [kind() for kind, _ in zip([Net, Critic], loop.phases, strict=False)]
    for model in models:
        model.train(loop.trains_in_training_mode)
    leading = [LEADING[name]() for name in loop.leading]
    criterion = None if loop.criterion is None else CRITERIA[loop.criterion]()
    target = nn.Tanh()
    steps = [
        [torch.optim.SGD(model.parameters(), lr=0.01).step for _ in range(loop.optimizers)]
        or [partial(by_hand, model)]
        for model in models
    ]
    batches: Iterator[Tensor] = iter(batch, None)
    if loop.loads:
        count = loop.iterations * sum(loop.phases)
        batches = iter(DataLoader(torch.ones(2 * count, 4), batch_size=2))  # type: ignore[arg-type]
    for name in loop.called_once:
        LEADING[name]()(batch())
    for _ in range(loop.iterations):
        for model, micro_batches, of_model in zip(models, loop.phases, steps, strict=True):
            for number in range(micro_batches):
                x = next(batches)
                if loop.clears_first and number == 0:
                    model.zero_grad()
                with torch.no_grad():
                    for of_target in [target, lambda x: nn.Softplus()(x)][: loop.targets]:
                        of_target(x)
                for call in leading:
                    call(x)
                output = model(x)
                if loop.criterion == "MSELoss":
                    output = criterion(output, x)
                elif criterion is not None:
                    output = criterion(output)
                output.sum().backward()
            for each in of_model:
                each()
            if not loop.clears_first:
                model.zero_grad()
        models[-1].train(loop.evaluates_in_training_mode)
        for _ in range(loop.evaluated):
            with torch.no_grad():
                for call in leading:
                    call(batch())
                models[-1](batch())
        models[-1].train(loop.trains_in_training_mode)


def forwards(loop: Loop, model: str) -> str:
    """Return the outline of what is called for each batch."""
    return "".join(f"forward {name}\n" for name in (*loop.leading, model))


def micro_batch(loop: Loop, model: str) -> str:
    """Return the outline of what is done with a batch."""
    wait = "dataloader.next\n" if loop.loads else ""
    wait += "".join(["forward Tanh\n", "forward Softplus\n"][: loop.targets])
    if loop.criterion is None:
        return f"{wait}{forwards(loop, model)}backward\n  backward {model}\n"
    return (
        f"{wait}{forwards(loop, model)}forward {loop.criterion}\n"
        f"backward\n  backward {loop.criterion}\n  backward {model}\n"
    )


def expected(loop: Loop) -> str:
    """Return the outline of what is recorded."""
    models = ["Net", "Critic"][: len(loop.phases)]
    found = []
    for _ in range(loop.iterations):
        for model, micro_batches in zip(models, loop.phases, strict=True):
            updates = loop.optimizers * "optimizer.step SGD\n"
            found.append(step(micro_batches * micro_batch(loop, model), updates))
        if loop.evaluated:
            found[-1] += evaluation(loop.evaluated * forwards(loop, models[-1]))
    once = "".join(f"forward {name}\n" for name in loop.called_once)
    found[0] = found[0].replace("train.step\n", step(once), 1)
    return "".join(each for index, each in enumerate(found) if loop.schedule.records(index))


@given(loops)
def test_each_step_of_an_optimizer_is_one_step(loop: Loop) -> None:
    config = Config(max_depth=1, schedule=loop.schedule)
    with capture_spans(config) as captured:
        run(loop)
    assert outline(captured) == expected(loop)
    trained = [tree.attributes for tree in captured.trees if tree.name == "train.step"]
    assert [
        (attributes["torch.step"], attributes["torch.step.micro_batches"]) for attributes in trained
    ] == [
        (index, micro_batches)
        for index, micro_batches in enumerate(loop.phases * loop.iterations)
        if loop.schedule.records(index)
    ]


@given(
    loops.map(
        lambda loop: loop._replace(
            phases=[1],
            iterations=4 * loop.iterations,
            optimizers=0,
            evaluated=0,
            targets=0,
            trains_in_training_mode=True,
        )
    )
)
def test_each_forward_with_its_backward_is_one_where_there_is_no_optimizer(loop: Loop) -> None:
    with capture_spans(Config(max_depth=1)) as captured:
        run(loop)
    assert [tree.attributes["torch.step"] for tree in captured.trees] == [*range(loop.iterations)]
    names = [[span.name for span in tree.children] for tree in captured.trees]
    assert [(each.count("forward Net"), each.count("backward")) for each in names] == (
        loop.iterations * [(1, 1)]
    )
    # From the third one on it is known where they end.
    assert "".join(tree.outline() + "\n" for tree in captured.trees[3:]) == (
        (loop.iterations - 3) * step(micro_batch(loop, "Net"))
    )
