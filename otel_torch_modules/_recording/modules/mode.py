"""Whether a module is in training mode, and whether it may be called at all, as it is kept: the program is not asked.

``module.training`` may be a property of the program's, or what its `__getattr__` returns: that may do anything.
"""

from __future__ import annotations

from torch import nn

from otel_torch_modules._recording.class_attributes import class_attribute
from otel_torch_modules._recording.modules.module_names import shown
from otel_torch_modules._recording.torch_private.modules import HOOKS, is_scripted, scripted_mode


def mode_of(module: nn.Module) -> bool | None:
    """Return whether `module` is in training mode; None where that is computed.

    Raises:
        AttributeError: `module` is not made yet.
    """
    told = vars(module).get("training")
    if told is True or told is False:
        return told
    if type(told) is int:
        return told != 0
    if not is_made(module):
        raise AttributeError(f"a {type(module)} is called before its nn.Module.__init__")
    if is_scripted(module):
        return scripted_mode(module)
    wrapped = shown(module)  # what is compiled has its mode, and no other
    return None if wrapped is module else mode_of(wrapped)


def keeps_mode(module: nn.Module) -> bool:
    """Return whether ``module.training`` is read from `module` itself, and no code of the program's runs."""
    kept = vars(module).get("training")
    return type(kept) is bool and class_attribute(type(module), "training") is None


def in_training(module: nn.Module) -> bool:
    """Return whether `module` is in training mode, as it is for all that is known where that is computed."""
    return mode_of(module) is not False


def is_made(module: object) -> bool:
    """Return whether `module` is a module whose ``nn.Module.__init__`` ran; calling another is the program's error.

    One that looks things up by itself may do without.
    """
    cls = type(module)
    return issubclass(cls, nn.Module) and (
        HOOKS in vars(module)
        or class_attribute(cls, "__getattr__") is not vars(nn.Module)["__getattr__"]
    )
