"""A tensor that keeps its graph and is given to modules again and again gets no mark more after a few steps.

The points of a physics-informed net are one, features of a frozen encoder, a latent that is searched for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from otel_torch_modules import Config
from otel_torch_modules._recording.live_marks import live_marks
from otel_torch_modules.testing import capture_spans

STEPS = 24
KNOWN_AFTER = 12
"""Steps: the call that made it has marked it, and those of some threads that came later."""


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


class Handing(nn.Module):
    """Returns what it was given, with what it makes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        return {**given, "u": given["x"] * self.weight, "t": given["x"]}


class Detached(nn.Module):
    """Makes nodes, and returns what has none."""

    def forward(self, x: Tensor) -> Tensor:
        return (x * 2).detach()


def by_turns(block: nn.Module, *kept: Tensor) -> Tensor:
    metric = Detached()
    for one in kept * 3:
        metric(one)
    made: Tensor = block(kept[0])
    return made


def in_a_thread(call: Callable[[], Tensor]) -> Tensor:
    made: list[Tensor] = []
    thread = threading.Thread(target=lambda: made.append(call()))
    thread.start()
    thread.join()
    return made[0]


GIVEN: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "alone": lambda block, kept: block(kept),
    "twice": lambda block, kept: block(kept) + block(kept),
    "beside another": lambda block, kept: block(torch.ones(3, 4), kept),
    "by keyword": lambda block, kept: block(torch.ones(3, 4), memory=kept),
    "in a list": lambda block, kept: block([kept, kept * 2]),
    "in a dictionary": lambda block, kept: block({"x": kept}),
    "to a criterion": lambda block, kept: nn.MSELoss()(block(torch.ones(3, 4)), kept),
    "back beside another": lambda block, kept: sum(Keeping(kept)(torch.ones(3, 4))) * 2,
    "by turns with another": lambda block, kept: by_turns(block, kept, kept * 1, kept + 1),
    "and back behind": lambda block, kept: sum(Keeping(kept)(torch.ones(3, 4))[::-1]) * 2,
    "back in a dictionary": lambda block, kept: Handing()({"u": kept, "x": kept})["u"] * 2,
    "in a thread of its own": lambda block, kept: in_a_thread(lambda: block(kept)),
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
    assert len(set(steps[KNOWN_AFTER:])) == 1


@pytest.mark.parametrize("numbers", [0, 1000], ids=["few", "many"])
def test_nor_where_another_thread_has_made_it(numbers: int) -> None:
    kept = torch.ones(3, 4, requires_grad=True)
    for _ in range(numbers):
        kept.mul(1)
    kept, block, rooms = kept * 2, Block(), []
    returning = Returning(kept)
    with ThreadPoolExecutor(1) as threads, capture_spans():
        for _ in range(STEPS):
            threads.submit(
                lambda: (
                    (block(kept) * returning(torch.ones(3, 4))).sum().backward(retain_graph=True)
                )
            ).result()
            rooms.append(live_marks.room())
    assert len(set(rooms[KNOWN_AFTER:])) == 1


def test_nor_from_tracing_that_begins_again_and_again() -> None:
    kept, block, rooms = made_by_a_module(), Block(), []
    for _ in range(STEPS):
        with capture_spans():
            block(kept).sum().backward(retain_graph=True)
        rooms.append(live_marks.room())
    assert len(set(rooms[KNOWN_AFTER:])) == 1
