"""To look at a view makes no node of autograd's: those of the program keep their numbers.

By these the engine chooses what it runs next, and with it the order in which gradients are summed.

A view whose base was changed in place has no node of its own until somebody asks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from otel_torch_modules import Config, Schedule
from otel_torch_modules.testing import capture_spans


def next_number() -> int:
    number: int = torch.autograd._get_sequence_nr()  # type: ignore[attr-defined]
    return number


class Head(nn.Module):
    """Uses the view last, and so says what number its node has."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, view: Any, base: Tensor, *, name: Tensor | None = None) -> Tensor:
        view = view if name is None else name
        view = view["view"] if isinstance(view, dict) else view[0] if type(view) is list else view
        return self.layer(base * 0.7).sum() + (base * 1.3).sin().sum() + view.pow(3).sum()


class Passing(nn.Module):
    """Makes nodes, and returns what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, view: Tensor) -> Tensor:
        self.layer(torch.ones(2, 8))
        return view


class PassingTwo(Passing):
    def forward(self, view: Tensor) -> Any:
        return view, self.layer(torch.ones(2, 8))


def first_row(base: Tensor) -> Tensor:
    return base[:, 0]


def one_of_two(base: Tensor) -> Tensor:
    return base.chunk(2, 1)[0]


def view_of_a_view(base: Tensor) -> Tensor:
    return base.transpose(0, 1)[0].unsqueeze(0)


def by_relu(base: Tensor) -> None:
    base.relu_()


def without_grad(base: Tensor) -> None:
    with torch.no_grad():
        base.mul_(0.9)


def by_another_view(base: Tensor) -> None:
    base[0, 0].mul_(0.9)


def not_at_all(base: Tensor) -> None:
    pass


USED: dict[str, Callable[[Head, Tensor, Tensor], Tensor]] = {
    "alone": lambda head, view, base: head(view, base),
    "by keyword": lambda head, view, base: head(base, base, name=view),
    "in a list": lambda head, view, base: head([view], base),
    "in a dictionary": lambda head, view, base: head({"view": view}, base),
    "by a layer": lambda head, view, base: head.layer(view).sum() + base.sin().sum(),
    "and returned": lambda head, view, base: head(Passing()(view), base),
    "and returned beside": lambda head, view, base: head(PassingTwo()(view)[0], base),
}


def trained(
    take: Callable[[Tensor], Tensor],
    change: Callable[[Tensor], None],
    use: Callable[[Head, Tensor, Tensor], Tensor],
) -> list[Any]:
    """Return losses, numbers of nodes and parameters of some steps, or the error that the program has."""
    torch.manual_seed(0)
    embed, head = nn.Linear(8, 8), Head()
    parameters = [*embed.parameters(), *head.parameters()]
    sgd = torch.optim.SGD(parameters, lr=0.01)
    found: list[Any] = []
    for _ in range(4):
        x = torch.randn(2, 6, 8)
        base = embed(x) + x
        view = take(base)
        change(base)
        start = next_number()
        try:
            loss = use(head, view, base)
            found.append(next_number() - start)
            loss.backward()
        except RuntimeError as error:
            found.append(str(error))
            continue
        sgd.step()
        sgd.zero_grad()
        found += [loss.item(), *(parameter.detach().clone() for parameter in parameters)]
    return found


@pytest.mark.parametrize(
    "config",
    [
        Config(),
        Config(detail_ranks="1"),
        Config(schedule=Schedule(wait=100)),
        Config(record_shapes=True),
    ],
    ids=["full", "phases", "left out", "shapes"],
)
@pytest.mark.parametrize("use", USED.values(), ids=USED)
@pytest.mark.parametrize("change", [by_relu, without_grad, by_another_view, not_at_all])
@pytest.mark.parametrize("take", [first_row, one_of_two, view_of_a_view])
def test_a_look_at_a_view_makes_no_node(
    take: Callable[[Tensor], Tensor],
    change: Callable[[Tensor], None],
    use: Callable[[Head, Tensor, Tensor], Tensor],
    config: Config,
) -> None:
    expected = trained(take, change, use)
    with capture_spans(config):
        found = trained(take, change, use)
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs) if isinstance(ours, Tensor) else ours == theirs


def test_what_returns_a_view_of_a_changed_base_has_its_backward() -> None:
    def outline(*, inplace: bool) -> str:
        net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(inplace), nn.Flatten(), nn.Linear(16, 2))
        with capture_spans() as captured:
            net(torch.randn(3, 2, 8)).sum().backward()
        return captured.outline()

    assert "backward 2\n" in outline(inplace=True)
    assert outline(inplace=True) == outline(inplace=False)
