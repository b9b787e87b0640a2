"""What modules are called in the traces of programs whose models change, are wrapped, or are no whole model at all."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from otel_torch_modules.testing import capture_spans
from tests.support.small_training import Net, batch


def linear() -> nn.Linear:
    return nn.Linear(4, 4)


def train(*models: nn.Module) -> None:
    """Make one step in which each is called with what the one before it gave."""
    sgd = torch.optim.SGD([p for model in models for p in model.parameters()], lr=0.01)
    output = batch()
    for model in models:
        output = model(output)
    output.sum().backward()
    sgd.step()


def a_layer_is_inserted() -> None:
    model = nn.Sequential(linear())
    train(model)
    model.insert(0, nn.Tanh())
    train(model)


def an_adapter_goes_in_and_out() -> None:
    model = Net()
    base = model.fc
    for fc in (base, nn.Sequential(base, linear()), base):
        model.fc = fc  # type: ignore[assignment]
        train(model)


def a_wrapper_is_used_once() -> None:
    model = Net()
    with torch.no_grad():
        wrapper = nn.Sequential(model)
        wrapper(batch())
    train(model)
    del wrapper
    train(model)


class Lit(nn.Module):
    """Calls its parts from a method, as Lightning's modules do."""

    def __init__(self) -> None:
        super().__init__()
        self.enc = nn.Sequential(linear())
        self.dec = nn.Sequential(linear())

    def training_step(self) -> None:
        train(self.enc, self.dec)


class Making(nn.Module):
    """Makes modules as it runs: one that it holds, two that nothing holds."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = linear()

    def forward(self, x: Tensor) -> Tensor:
        self.act = nn.Tanh()
        return nn.ReLU()(nn.ReLU()(self.act(self.fc(x))))


def modules_are_made_in_forward() -> None:
    model = Making()
    train(model)
    train(model)


NET = ["Net", "Net.fc", "Net.act"]
MADE = ["Making", "Making.fc", "Making.act", "ReLU", "ReLU"]

PROGRAMS: dict[Callable[[], object], list[str]] = {
    a_layer_is_inserted: [
        *("Sequential", "Sequential.0"),
        *("Sequential", "Sequential.0", "Sequential.1"),
    ],
    an_adapter_goes_in_and_out: [*NET, "Net", "Net.fc", "Net.fc.0", "Net.fc.1", "Net.act", *NET],
    a_wrapper_is_used_once: [
        *("Sequential", "Sequential.0", "Sequential.0.fc", "Sequential.0.act"),
        *NET,
        *NET,
    ],
    Lit.training_step: ["Lit.enc", "Lit.enc.0", "Lit.dec", "Lit.dec.0"],
    modules_are_made_in_forward: [*MADE, *MADE],
    train: [*NET, "Net_1", "Net_1.fc", "Net_1.act"],
}


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__qualname__)
def test_names_are_those_of_the_root_that_is_called(program: Callable[..., object]) -> None:
    given = {Lit.training_step: (Lit(),), train: (Net(), Net())}.get(program, ())
    with capture_spans() as captured:
        program(*given)
    spans = [
        span
        for tree in captured.trees
        for span in tree.walk()
        if span.attributes["torch.phase"] == "forward"
    ]
    spans.sort(key=lambda span: span.start)
    assert [span.attributes["torch.module.fqn"] for span in spans] == PROGRAMS[program]
    indices = [span.attributes.get("torch.module.call_index", 0) for span in spans]
    assert sum(indices) == PROGRAMS[program].count("ReLU") / 2  # both have one place
