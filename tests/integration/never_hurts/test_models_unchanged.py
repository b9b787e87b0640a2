"""A model is the same object with tracing on: nothing of ours is in it, and torch's fast paths are taken."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import optimizer as torch_optimizer
from torch.profiler import ProfilerActivity, profile
from torch.utils.data.dataloader import _BaseDataLoaderIter

from otel_torch_modules import TorchModuleInstrumentor
from otel_torch_modules.testing import capture_spans
from tests.support.small_training import STEP, Net, batch, outline, train


def pickled(value: object) -> bytes:
    return pickle.dumps(value)


def saved(value: object) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


@pytest.mark.parametrize("written", [pickled, saved])
def test_what_is_written_is_the_same(written: Any) -> None:
    model = Net()
    before = written(model), written(model.state_dict())
    with capture_spans():
        output = model(batch())
        during = written(model), written(model.state_dict())
        output.sum().backward()
        model.zero_grad()
        after = written(model), written(model.state_dict())
    assert before == during == after


def test_the_attributes_of_modules_are_the_same() -> None:
    model = Net()
    before = [dict(vars(module)) for module in model.modules()]
    with capture_spans():
        model(batch())
        assert [dict(vars(module)) for module in model.modules()] == before
        assert all(not module._forward_hooks for module in model.modules())
        assert all(not module._forward_pre_hooks for module in model.modules())


def test_copies_and_read_models_are_traced_as_models_of_their_own() -> None:
    model = Net()
    with capture_spans() as captured:
        for made in (
            model,
            copy.deepcopy(model),
            copy.copy(model),
            pickle.loads(pickle.dumps(model)),
        ):
            train(made, torch.optim.SGD(made.parameters(), lr=0.01))
    names = ("Net", "Net_1", "Net_2", "Net_3")
    assert outline(captured) == "".join(STEP.replace("Net", name) for name in names)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.parametrize("nested", [False, True])
def test_the_fused_path_of_the_transformer_encoder_is_taken(nested: bool) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=nested).eval()
    inputs = torch.ones(2, 3, 8)
    mask = torch.tensor([[False, False, True], [False, False, False]])

    def operators() -> list[str]:
        with torch.no_grad(), profile(activities=[ProfilerActivity.CPU]) as profiled:
            model(inputs, src_key_padding_mask=mask)
        return [event.name for event in profiled.events() if event.name.startswith("aten::")]

    expected = operators()
    with capture_spans() as captured:
        traced = operators()
    assert expected.count("aten::_transformer_encoder_layer_fwd") == 2
    assert traced == expected
    assert outline(captured) == (
        "forward TransformerEncoder\n  forward layers.0\n  forward layers.1\n"
    )


def test_uninstrument_takes_everything_off() -> None:
    before = nn.Module.__call__, _BaseDataLoaderIter.__next__
    instrumentor = TorchModuleInstrumentor()
    for _ in range(3):
        with capture_spans() as captured:
            assert nn.Module.__call__ is not before[0]
            assert _BaseDataLoaderIter.__next__ is not before[1]
            model = Net()
            train(model, torch.optim.SGD(model.parameters(), lr=0.01))
        assert (nn.Module.__call__, _BaseDataLoaderIter.__next__) == before
        assert not torch_optimizer._global_optimizer_pre_hooks
        assert not torch_optimizer._global_optimizer_post_hooks
        assert outline(captured) == STEP
    assert not instrumentor.is_instrumented_by_opentelemetry


def test_what_was_recorded_before_uninstrument_runs_backward_after_it() -> None:
    model = Net()
    with capture_spans() as captured:
        output = model(batch())
    output.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert outline(captured) == "train.step\n  forward Net\n    forward fc\n    forward act\n"
