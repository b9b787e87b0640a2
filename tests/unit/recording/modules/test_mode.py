"""Whether a module is in training mode, as it is kept."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from otel_torch_modules._recording.modules.mode import in_training, is_made, mode_of


class Computes(nn.Module):
    asked = 0

    @property
    def training(self) -> bool:  # type: ignore[override]
        self.asked += 1
        return False

    @training.setter
    def training(self, _: bool) -> None:
        pass


class Unmade(nn.Module):
    def __init__(self) -> None:
        pass


class StandsFor(nn.Module):
    """Has nothing of its own, and is called all the same."""

    def __init__(self, other: nn.Module) -> None:
        vars(self)["other"] = other

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["other"], name)


@pytest.mark.parametrize("training", [True, False])
def test_it_is_the_modules(training: bool) -> None:
    model = nn.Sequential(nn.ReLU()).train(training)
    assert (mode_of(model), in_training(model)) == (training, training)
    model.training = int(training)  # type: ignore[assignment]
    assert mode_of(model) is training


@pytest.mark.parametrize("training", [True, False])
def test_what_is_compiled_has_that_of_what_it_was_made_of(training: bool) -> None:
    inner = nn.Sequential(nn.ReLU())
    model: Any = torch.compile(inner, backend="eager")
    model.train(training)
    assert mode_of(model) is training
    inner.train(not training)
    assert mode_of(model) is not training


def test_what_computes_it_is_not_asked() -> None:
    computes = Computes()
    compiled = torch.compile(computes, backend="eager")  # which asks
    before = computes.asked
    for model in (computes, compiled, StandsFor(nn.ReLU())):
        assert mode_of(model) is None
        assert in_training(model)
        assert is_made(model)
    assert computes.asked == before


def test_one_that_is_not_made_has_none() -> None:
    assert not is_made(Unmade())
    assert not is_made(object())
    with pytest.raises(AttributeError, match="Unmade"):
        mode_of(Unmade())
