"""Over generated models: backward sees at each tensor the parents that forward saw when it was made."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from otel_torch_modules import ModuleTracker
from tests.support.examples import examples


@dataclass
class Observed:
    """What one run saw: the parents at each operation's forward and backward, and the user hooks in order."""

    tracker: ModuleTracker
    forward: dict[int, set[str]] = field(default_factory=dict)
    backward: list[tuple[int, set[str]]] = field(default_factory=list)
    hooks: list[tuple[str, set[str]]] = field(default_factory=list)

    def watch(self, tensor: Tensor) -> Tensor:
        number = len(self.forward)
        self.forward[number] = self.tracker.parents
        if tensor.requires_grad:
            tensor.register_hook(partial(self._look, number))
        return tensor

    def _look(self, number: int, gradient: Tensor) -> None:
        self.backward.append((number, self.tracker.parents))


class Step(nn.Module):
    """One operation, then its children, each called in its own way, then perhaps a residual."""

    def __init__(self, operation: str, ways: list[str], children: list[nn.Module]) -> None:
        super().__init__()
        self.operation = operation
        self.ways = ways
        self.below = nn.ModuleList(children)
        self.weight = nn.Parameter(torch.ones(2, 2))

    def forward(self, x: Tensor, observed: Observed) -> Tensor:
        y = observed.watch(OPERATIONS[self.operation](x, self.weight))
        for way, child in zip(self.ways, self.below, strict=True):
            y = CALLS[way](child, y, observed)
        return y + x if self.operation == "residual" else y


def in_place(x: Tensor, weight: Tensor) -> Tensor:
    return (x * weight).view(-1).relu_().view(2, 2) + 1


OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "matmul": torch.mm,
    "sin": lambda x, weight: x.sin() + weight,
    "view": lambda x, weight: (x * weight).view(2, 2),
    "in place": in_place,
    "residual": lambda x, weight: x * weight,
}
CALLS: dict[str, Callable[[nn.Module, Tensor, Observed], Tensor]] = {
    "plain": lambda child, x, observed: child(x, observed),
    "twice": lambda child, x, observed: child(child(x, observed), observed),
    "keyword": lambda child, x, observed: child(x=x, observed=observed),
    "changed in place": lambda child, x, observed: child(x, observed).mul_(2),
    "branches": lambda child, x, observed: child(x, observed) + child(x, observed),
    "no grad": lambda child, x, observed: x + torch.no_grad()(child)(x, observed),
}

steps = st.recursive(
    st.builds(lambda operation: Step(operation, [], []), st.sampled_from(sorted(OPERATIONS))),
    lambda below: st.lists(
        st.tuples(st.sampled_from(sorted(CALLS)), below), min_size=1, max_size=3
    ).flatmap(
        lambda children: st.builds(
            Step,
            st.sampled_from(sorted(OPERATIONS)),
            st.just([way for way, _ in children]),
            st.just([child for _, child in children]),
        )
    ),
    max_leaves=6,
)


def properly_nested(hooks: list[tuple[str, set[str]]]) -> bool:
    depth = 0
    for kind, parents in hooks:
        depth += kind == "pre"
        if depth < 1 or len(parents) < 2:
            return False
        depth -= kind == "post"
    return depth == 0


def follow(tracker: ModuleTracker) -> Observed:
    observed = Observed(tracker)
    tracker.clear_user_hooks()
    tracker.register_user_hooks(
        pre_bw_hook=lambda *_: observed.hooks.append(("pre", tracker.parents)),
        post_bw_hook=lambda *_: observed.hooks.append(("post", tracker.parents)),
    )
    return observed


@settings(max_examples=examples(60), deadline=None)
@given(model=steps, leaf=st.booleans())
def test_backward_sees_what_forward_saw(model: Step, leaf: bool) -> None:
    with ModuleTracker() as tracker:
        observed = follow(tracker)
        x = torch.ones(2, 2, requires_grad=leaf)
        model(x, observed).sum().backward()
        assert tracker.parents == {"Global"}
    assert [(number, observed.forward[number]) for number, _ in observed.backward] == (
        observed.backward
    )
    assert properly_nested(observed.hooks)


@settings(max_examples=examples(40), deadline=None)
@given(model=steps, use_reentrant=st.booleans())
def test_recompute_sees_what_forward_saw(model: Step, use_reentrant: bool) -> None:
    outer = Step("sin", ["checkpointed"], [model])
    with ModuleTracker() as tracker, pytest.MonkeyPatch.context() as patch:
        observed = follow(tracker)
        patch.setitem(
            CALLS,
            "checkpointed",
            lambda child, x, observed: checkpoint(child, x, observed, use_reentrant=use_reentrant),
        )
        outer(torch.ones(2, 2, requires_grad=True), observed).sum().backward()
        assert tracker.parents == {"Global"}
    # Whether the outermost is open tells nothing: in a reentrant backward it is around, in its recompute it is not.
    seen = [(number, parents - {"Step"}) for number, parents in observed.backward]
    assert seen == [(number, observed.forward[number] - {"Step"}) for number, _ in seen]
    assert properly_nested(observed.hooks)


@settings(max_examples=examples(60), deadline=None)
@given(
    model=steps,
    at=st.integers(0, 8),
    error=st.sampled_from([ValueError, KeyboardInterrupt]),
    data=st.data(),
)
def test_no_error_leaves_a_trace(
    model: Step, at: int, error: type[BaseException], data: st.DataObject
) -> None:
    forward = data.draw(st.booleans(), label="in forward")
    remaining = [at]

    def maybe_fail(*_: Any) -> None:
        remaining[0] -= 1
        if remaining[0] < 0:
            raise error

    class Failing(Observed):
        def watch(self, tensor: Tensor) -> Tensor:
            if forward:
                maybe_fail()
            elif tensor.requires_grad:
                tensor.register_hook(maybe_fail)
            return tensor

    with ModuleTracker() as tracker:
        with suppress(error):
            model(torch.ones(2, 2), Failing(tracker)).sum().backward()
        assert tracker.parents == {"Global"}
        observed = follow(tracker)
        model(torch.ones(2, 2), observed).sum().backward()
        assert tracker.parents == {"Global"}
    for number, parents in observed.backward:
        assert parents == observed.forward[number]
    assert properly_nested(observed.hooks)
