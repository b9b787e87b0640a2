"""A tensor that keeps its graph and is given to modules again and again gets no mark more after a few steps.

The points of a physics-informed net are one, features of a frozen encoder, a latent that is searched for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from otel_torch_modules import Config
from otel_torch_modules._recording.live_marks import live_marks
from otel_torch_modules.testing import capture_spans

STEPS = 12
KNOWN_AFTER = 4
"""Steps: the call that made it has marked it, and one that came later."""


class Block(nn.Module):
    """Two layers and an operation of its own between them, so that what is marked last is never what is given."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Any, *others: Tensor, memory: Tensor | None = None) -> Tensor:
        values = list(x.values()) if isinstance(x, dict) else x if isinstance(x, list) else [x]
        values += [*others, *([] if memory is None else [memory])]
        return self.second(self.first(sum(values)) * 2)


class Keeping(nn.Module):
    """Returns what it has kept, beside what it makes."""

    def __init__(self, kept: Tensor) -> None:
        super().__init__()
        self.layer, self.kept = nn.Linear(4, 4), [kept]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.kept[0], self.layer(x)


class Returning(Keeping):
    """Returns what it has kept alone."""

    def forward(self, x: Tensor) -> Any:
        self.layer(x)
        return self.kept[0]


def made_by_a_module() -> Tensor:
    made: Tensor = nn.Linear(4, 4)(torch.ones(3, 4))
    return made


def made_outside_modules() -> Tensor:
    halves = torch.ones(3, 2, requires_grad=True), torch.ones(3, 2, requires_grad=True)
    return torch.cat(halves, 1)


def a_view() -> Tensor:
    return made_outside_modules()[:, :]


GIVEN: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "alone": lambda block, kept: block(kept),
    "twice": lambda block, kept: block(kept) + block(kept),
    "beside another": lambda block, kept: block(torch.ones(3, 4), kept),
    "by keyword": lambda block, kept: block(torch.ones(3, 4), memory=kept),
    "in a list": lambda block, kept: block([kept, kept * 2]),
    "in a dictionary": lambda block, kept: block({"x": kept}),
    "to a criterion": lambda block, kept: nn.MSELoss()(block(torch.ones(3, 4)), kept),
    "back beside another": lambda block, kept: sum(Keeping(kept)(torch.ones(3, 4))) * 2,
    "back alone": lambda block, kept: Returning(kept)(torch.ones(3, 4)) * block(kept),
}


@pytest.fixture(params=[made_by_a_module, made_outside_modules, a_view])
def kept(request: pytest.FixtureRequest) -> Tensor:
    """Return a tensor that keeps its graph."""
    return request.param()  # type: ignore[no-any-return]


@pytest.mark.parametrize("config", [Config(), Config(detail_ranks="1")], ids=["full", "phases"])
@pytest.mark.parametrize("give", GIVEN.values(), ids=GIVEN)
def test_it_gets_no_mark_more(
    give: Callable[[nn.Module, Tensor], Tensor], config: Config, kept: Tensor
) -> None:
    block, rooms = Block(), []
    sgd = torch.optim.SGD(block.parameters(), lr=0.01)
    with capture_spans(config) as captured:
        for _ in range(STEPS):
            give(block, kept).square().sum().backward(retain_graph=True)
            sgd.step()
            sgd.zero_grad()
            rooms.append(live_marks.room())
    assert len(set(rooms[KNOWN_AFTER:])) == 1
    steps = [tree.outline() for tree in captured.trees if tree.name == "train.step"]
    assert len(steps) == STEPS
    assert len(set(steps[1:])) == 1
