"""Whatever a model is built of: each call that makes nodes has its backward once, in its place, for its own time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from otel_torch_modules import semconv
from otel_torch_modules.testing import Captured, CapturedSpan, capture_spans
from tests.integration.backward.drawing import draw
from tests.integration.backward.known_work import UnsavedWork, Work
from tests.support.passing_time import Clock

MS = 1_000_000

Build = Callable[[Clock], nn.Module]


class Residual(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class Branches(nn.Module):
    def __init__(self, left: nn.Module, right: nn.Module) -> None:
        super().__init__()
        self.left = left
        self.right = right

    def forward(self, x: Tensor) -> Tensor:
        return self.left(x) * self.right(x)


class Twice(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.inner(x))


class Split(nn.Module):
    """Gives each part of its input to another module, in a dict."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first = Named(first)
        self.second = Named(second)

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, -1)
        parts = self.first({"x": first}), self.second({"x": second})
        return torch.cat([part["x"] for part in parts], -1)


class Named(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"x": self.inner(parts["x"])}


class Checkpointed(nn.Module):
    def __init__(self, inner: nn.Module, reentrant: bool) -> None:
        super().__init__()
        self.inner = inner
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.inner, x, use_reentrant=self.reentrant)


class CheckpointedFunction(nn.Module):
    def __init__(self, first: nn.Module, second: nn.Module, reentrant: bool) -> None:
        super().__init__()
        self.first = first
        self.second = second
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(lambda y: self.second(self.first(y)), x, use_reentrant=self.reentrant)


def leaf(kind: type[Work] | type[UnsavedWork], forward: int, backward: int) -> Build:
    return lambda clock: kind(clock, forward, backward)


def around(kind: Callable[..., nn.Module], *inner: Build) -> Build:
    return lambda clock: kind(*(build(clock) for build in inner))


def checkpointed(kind: Callable[..., nn.Module], reentrant: bool, *inner: Build) -> Build:
    return lambda clock: kind(*(build(clock) for build in inner), reentrant)


def models(reentrant: st.SearchStrategy[bool]) -> st.SearchStrategy[Build]:
    amounts = st.integers(1, 100)
    leaves = st.builds(leaf, st.sampled_from([Work, UnsavedWork]), amounts, amounts)
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.builds(around, st.just(nn.Sequential), inner, inner, inner),
            st.builds(around, st.just(nn.Sequential), inner, st.just(lambda _: nn.Identity())),
            st.builds(around, st.just(Residual), inner),
            st.builds(around, st.just(Branches), inner, inner),
            st.builds(around, st.just(Twice), inner),
            st.builds(around, st.just(Split), inner, inner),
            st.builds(checkpointed, st.just(Checkpointed), reentrant, inner),
            st.builds(checkpointed, st.just(CheckpointedFunction), reentrant, inner, inner),
        ),
        max_leaves=8,
    )


def run(build: Build) -> tuple[nn.Module, Captured]:
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock(patch)
        model = nn.Sequential(Work(clock, 1, 1), build(clock), Work(clock, 1, 1))
        with capture_spans() as captured:
            model(torch.ones(2, 64)).sum().backward()
    return model, captured


def check(model: nn.Module, captured: Captured) -> None:
    draw(captured)  # checks links, parents and that nothing overlaps
    (step,) = captured.trees
    modules = {"Sequential": model} | {
        f"Sequential.{name}": module for name, module in model.named_modules() if name
    }
    forwards: Counter[object] = Counter()
    backwards: Counter[object] = Counter()
    for span in step.walk():
        fqn = span.attributes.get(semconv.MODULE_FQN)
        if fqn is None:
            continue
        module = modules[str(fqn)]
        phase = span.attributes[semconv.PHASE]
        if phase == semconv.PHASE_FORWARD and not isinstance(module, nn.Identity):
            forwards[fqn] += 1
        if phase == semconv.PHASE_BACKWARD:
            backwards[fqn] += 1
            if isinstance(module, (Work, UnsavedWork)):
                assert own(span) == module.work[2] * MS, span.name
            else:
                assert own(span) == 0, span.name
        if phase == semconv.PHASE_FORWARD:
            expected = module.work[1] if isinstance(module, (Work, UnsavedWork)) else 0
            assert own(span) == expected * MS, span.name
    assert backwards == forwards


def own(span: CapturedSpan) -> int:
    return span.end - span.start - sum(child.end - child.start for child in span.children)


slow_data = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@slow_data
@given(models(st.nothing()))
def test_models_that_keep_all_activations(build: Build) -> None:
    check(*run(build))


@slow_data
@given(models(st.just(False)))
def test_checkpointed_models(build: Build) -> None:
    check(*run(build))


@slow_data
@given(models(st.just(True)))
def test_checkpointed_models_reentrant(build: Build) -> None:
    check(*run(build))


@slow_data
@given(models(st.booleans()))
def test_models_that_checkpoint_in_both_ways(build: Build) -> None:
    check(*run(build))
