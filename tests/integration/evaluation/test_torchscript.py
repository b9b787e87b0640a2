"""What TorchScript has made of a model is called as any other, also where it is frozen and has no mode any more."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from otel_torch_modules import Config, semconv
from otel_torch_modules.testing import capture_spans

BATCH = torch.ones(1, 4)

Make = Callable[[nn.Module], nn.Module]


@pytest.fixture(autouse=True)
def _without_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # that TorchScript is no longer developed
        yield


def loaded(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.jit.save(torch.jit.freeze(torch.jit.script(model)), file)
    file.seek(0)
    return torch.jit.load(file)


MADE: dict[str, Make] = {
    "scripted": torch.jit.script,
    "traced": lambda model: torch.jit.trace(model, BATCH),
    "frozen": lambda model: torch.jit.freeze(torch.jit.script(model)),
    "traced and frozen": lambda model: torch.jit.freeze(torch.jit.trace(model, BATCH)),
    "optimized": lambda model: torch.jit.optimize_for_inference(torch.jit.script(model)),
    "loaded": loaded,
}


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU()).eval()


@pytest.mark.parametrize("config", [Config(), Config(detail_ranks="1")], ids=["", "phases"])
@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_each_call_of_one_that_serves_is_a_trace(make: Make, config: Config) -> None:
    served = make(net())
    with torch.no_grad():
        expected = served(BATCH)
        with capture_spans(config=config) as captured:
            found = [served(BATCH) for _ in range(2)]
    assert all(torch.equal(one, expected) for one in found)
    roots = [span for span in captured.spans if span.parent is None]
    assert [span.name for span in roots] == [f"forward {type(served).__name__}"] * 2
    assert [span.attributes[semconv.MODULE_TRAINING] for span in roots] == [False] * 2


class Around(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.first(x))


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_one_inside_a_model_that_trains_has_its_spans(make: Make) -> None:
    model = Around(make(net()))
    with capture_spans() as captured:
        model(BATCH).sum().backward()
    [inner] = [span for span in captured.spans if span.name == "forward inner"]
    assert inner.attributes[semconv.MODULE_TRAINING] is False


@pytest.mark.parametrize("make", [MADE["scripted"], MADE["traced"]], ids=["scripted", "traced"])
@pytest.mark.parametrize("training", [True, False])
def test_one_that_is_not_frozen_says_its_mode(make: Make, training: bool) -> None:
    model = Around(make(net().train(training)))
    with capture_spans() as captured:
        model(BATCH).sum().backward()
    [inner] = [span for span in captured.spans if span.name == "forward inner"]
    assert inner.attributes[semconv.MODULE_TRAINING] is training
