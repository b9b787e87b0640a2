"""Modules that are called from no other one's call and share some below them: names say through which one a module was
called, and are the same in every step, whoever was called last.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, distributed, nn
from torch._C._distributed_c10d import HashStore
from torch.nn.parallel import DataParallel, DistributedDataParallel

from otel_torch_modules import Config, step
from otel_torch_modules.testing import capture_spans

STEPS = 5
BATCH = torch.ones(2, 4)

Run = Callable[[int], list[Tensor]]
"""The losses of the step of this number, each of which has a backward of its own."""


class Head(nn.Module):
    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk
        self.out = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.trunk(x))


class Actor(Head):
    pass


class Critic(Head):
    pass


class Judged(Actor):
    """Calls a critic that is none of its modules."""

    def __init__(self, trunk: nn.Module, critic: nn.Module) -> None:
        super().__init__(trunk)
        self.others = [critic]

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.others[0](x)


def trunk() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), nn.ReLU())


def in_turn() -> Run:
    shared = trunk()
    actor, critic = Actor(shared), Critic(shared)
    return lambda _: [actor(BATCH).sum(), critic(BATCH).sum()]


def now_one_first_now_the_other() -> Run:
    shared = trunk()
    heads = Actor(shared), Critic(shared)
    return lambda number: [head(BATCH).sum() for head in heads[:: 1 if number % 2 else -1]]


def in_one_loss() -> Run:
    shared = trunk()
    actor, critic = Actor(shared), Critic(shared)
    return lambda _: [actor(BATCH).sum() + critic(BATCH).sum() + actor(BATCH).sum()]


def one_within_the_other() -> Run:
    shared = trunk()
    critic = Critic(shared)
    actor = Judged(shared, critic)
    return lambda _: [actor(BATCH).sum(), critic(BATCH).sum()]


def one_within_the_other_and_before_it() -> Run:
    shared = trunk()
    critic = Critic(shared)
    actor = Judged(shared, critic)
    return lambda _: [critic(BATCH).sum(), actor(BATCH).sum()]


def the_shared_part_too() -> Run:
    shared = trunk()
    actor, critic = Actor(shared), Critic(shared)
    return lambda _: [actor(BATCH).sum(), shared(BATCH).sum(), critic(BATCH).sum()]


def of_one_class() -> Run:
    shared = trunk()
    one, other = Actor(shared), Actor(shared)
    return lambda _: [one(BATCH).sum(), other(BATCH).sum()]


def a_wrapper_and_what_it_wraps() -> Run:
    model = Actor(trunk())
    wrapper = DataParallel(model)
    return lambda _: [wrapper(BATCH).sum(), model(BATCH).sum()]


def ddp_and_what_it_wraps() -> Run:
    ddp = DistributedDataParallel(Actor(trunk()))
    return lambda _: [ddp(BATCH).sum(), ddp.module(BATCH).sum()]


def with_a_module_that_is_new(
    number: int, shared: nn.Sequential, heads: list[Head]
) -> list[Tensor]:
    shared[1] = nn.ReLU()
    return [head(BATCH).sum() for head in heads]


def with_new_modules() -> Run:
    shared = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    heads: list[Head] = [Actor(shared), Critic(shared)]
    return lambda number: with_a_module_that_is_new(number, shared, heads)


def below(root: str) -> list[str]:
    """Return the names of all that a call of the root named so calls, itself first."""
    return [root, f"{root}.trunk", f"{root}.trunk.0", f"{root}.trunk.1", f"{root}.out"]


ACTOR, CRITIC = below("Actor"), below("Critic")
CRITIC_OF_JUDGED = [
    "Critic",
    *below("Judged")[1:4],
    "Critic.out",
]  # below one root a module has one name

LOOPS: dict[Callable[[], Run], list[str]] = {
    in_turn: ACTOR + CRITIC,
    now_one_first_now_the_other: CRITIC + ACTOR,
    in_one_loss: ACTOR + CRITIC + ACTOR,
    one_within_the_other: [*below("Judged"), *CRITIC_OF_JUDGED, *CRITIC],
    one_within_the_other_and_before_it: [*CRITIC, *below("Judged"), *CRITIC_OF_JUDGED],
    the_shared_part_too: [*ACTOR, "Sequential", "Sequential.0", "Sequential.1", *CRITIC],
    of_one_class: ACTOR + below("Actor_1"),
    a_wrapper_and_what_it_wraps: ["DataParallel", *ACTOR, *ACTOR],
    ddp_and_what_it_wraps: ["DistributedDataParallel", *ACTOR, *ACTOR],
    with_new_modules: ACTOR + CRITIC,
}
"""What is called in the first step, in turn."""


@pytest.fixture
def one_rank() -> object:
    distributed.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("one_rank")
@pytest.mark.parametrize("loop", LOOPS)
def test_names_are_those_of_the_root_that_is_called(loop: Callable[[], Run]) -> None:
    run = loop()
    with capture_spans(Config(causes=())) as captured:  # DDP has collectives of its own
        for number in range(STEPS):
            with step():
                for loss in run(number):
                    loss.backward()
    steps = captured.trees
    calls = {
        phase: [
            [
                str(span.attributes["torch.module.fqn"])
                for span in tree.walk()
                if span.name.startswith(f"{phase} ") and "torch.module.fqn" in span.attributes
            ]
            for tree in steps
        ]
        for phase in ("forward", "backward")
    }
    expected = LOOPS[loop]
    assert calls["forward"][0] == expected
    if loop is now_one_first_now_the_other:
        assert calls["forward"] == [[*CRITIC, *ACTOR], [*ACTOR, *CRITIC]] * 2 + [expected]
    else:
        assert calls["forward"] == [expected] * STEPS
        assert [tree.outline() for tree in steps] == [steps[0].outline()] * STEPS
    assert [sorted(names) for names in calls["backward"]] == [sorted(expected)] * STEPS
