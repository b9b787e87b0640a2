"""How modules are called, and what of that stays behind."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any, Final

import torch
from torch import nn
from torch.nn.modules import module as torch_module
from torch.utils.hooks import RemovableHandle

from otel_torch_modules._recording.class_attributes import class_attribute
from otel_torch_modules._recording.frames import program_frame

PIPELINE_STAGES: Final = "torch.distributed.pipelining.stage"
"""The module without which none is a pipeline's stage."""

HOOKS: Final = "_forward_hooks"
"""What each call of a module looks up in it, so that none is called without; `nn.Module.__init__` makes it."""

_STAGE_FORWARD = "forward_maybe_with_nosync"


def is_torch_call(call: Callable[..., Any]) -> bool:
    """Return whether `call`, found as ``nn.Module.__call__``, is torch's own; False where that does anything new.

    Checked on 2.13: it calls ``module._compiled_call_impl`` where that is not None, and else ``module._call_impl``. Who
    does the same saves a call.
    """
    code = getattr(call, "__code__", None)
    return code is not None and code.co_names == ("_compiled_call_impl", "_call_impl")


def runs_compiled_code(module: nn.Module) -> bool:
    """Return whether calls of `module` run what ``torch.compile`` has made of it: in place, or of its ``forward``.

    Checked on 2.13: what is compiled, and what is kept from it, has an attribute with what it was made of.
    """
    if vars(module).get("_compiled_call_impl") is not None:
        return True
    own = vars(module).get("forward")
    forward = class_attribute(type(module), "forward") if own is None else own
    told = vars(forward) if isinstance(forward, FunctionType) else {}
    return "_torchdynamo_orig_callable" in told and "_torchdynamo_disable" not in told


def is_scripted(module: nn.Module) -> bool:
    """Return whether `module` is one of TorchScript's, which keeps in C++ what others keep in Python."""
    return issubclass(type(module), torch.jit.ScriptModule)


def scripted_mode(module: nn.Module) -> bool:
    """Return whether a module of TorchScript is in training mode.

    Checked on 2.13: one that is frozen, which it can be in evaluation mode only, keeps no mode.
    """
    inside = vars(vars(module).get("_actual_script_module", module)).get("_c")
    return inside is not None and inside.hasattr("training") and inside.getattr("training") is True


def forget_keywords(handle: RemovableHandle) -> None:
    """Finish the removal of a global forward hook that took keyword arguments.

    Torch leaves a note of it behind, and `torch.compile` warns of global hooks from then on.
    """
    vars(torch_module).get("_global_forward_hooks_with_kwargs", {}).pop(handle.id, None)


def infers_shapes() -> bool:
    """Return whether the module that is called now is a pipeline's stage that finds out what its outputs are like.

    Checked on 2.13, and read in 2.6: that is in training mode, with gradients on, and on some ranks has a backward; but
    what trains is called from one method.
    """
    frame = program_frame()
    return (
        frame is not None
        and frame.f_globals.get("__name__") == PIPELINE_STAGES
        and frame.f_code.co_name != _STAGE_FORWARD
    )
