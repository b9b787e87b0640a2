"""What is taken of torch for `modules.py` does what is said of it: a version that lacks a name says which."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.pipelining import stage as pipeline_stage

from otel_torch_modules._recording.torch_private.modules import (
    HOOKS,
    PIPELINE_STAGES,
    forget_keywords,
    infers_shapes,
    is_scripted,
    is_torch_call,
    runs_compiled_code,
    scripted_mode,
)


def test_is_torch_call() -> None:
    assert is_torch_call(nn.Module.__call__)
    assert not is_torch_call(lambda module: None)


def test_runs_compiled_code() -> None:
    class Layer(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    class Decorated(Layer):
        forward = torch.compile(Layer.forward)  # type: ignore[assignment]

    class Kept(Layer):
        forward = torch.compiler.disable(Layer.forward)  # type: ignore[assignment]

    in_place, own_forward = Layer(), Layer()
    in_place.compile()
    own_forward.forward = torch.compile(own_forward.forward)  # type: ignore[method-assign]
    modules = (in_place, own_forward, Decorated(), Layer(), Kept())
    answers = [runs_compiled_code(module) for module in modules]
    assert answers == [True, True, True, False, False]


def test_hooks() -> None:
    module = nn.Identity()
    del vars(module)[HOOKS]
    with pytest.raises(AttributeError, match=HOOKS):
        module(torch.ones(1))


def test_is_scripted_and_scripted_mode() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # that TorchScript is no longer developed
        for training in (True, False):
            model = nn.Identity().train(training)
            made = [torch.jit.script(model), torch.jit.trace(model, torch.ones(1))]
            assert [scripted_mode(each) for each in made] == [training] * 2
        frozen = torch.jit.freeze(torch.jit.script(nn.Identity().eval()))
    assert not hasattr(frozen, "training")
    assert scripted_mode(frozen) is False
    assert [is_scripted(each) for each in (*made, frozen, model)] == [True, True, True, False]


def test_forget_keywords() -> None:
    hooks = nn.modules.module
    handle = hooks.register_module_forward_hook(lambda *_: None, with_kwargs=True)
    handle.remove()
    forget_keywords(handle)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not vars(hooks).get("_global_forward_hooks_with_kwargs")


def test_pipeline_stages_and_infers_shapes() -> None:
    namespace: dict[str, Any] = {
        "__name__": pipeline_stage.__name__,
        "infers": infers_shapes,
    }
    exec(
        "def forward_maybe_with_nosync():\n    return infers()\ndef _other():\n    return infers()\n",
        namespace,
    )
    trains, other = namespace["forward_maybe_with_nosync"], namespace["_other"]
    assert pipeline_stage.__name__ == PIPELINE_STAGES
    assert (trains(), other(), infers_shapes()) == (False, True, False)
    assert callable(getattr(pipeline_stage.PipelineStage, trains.__name__))
