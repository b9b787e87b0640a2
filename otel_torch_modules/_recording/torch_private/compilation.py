"""What Dynamo compiles, and what it says of that."""

from __future__ import annotations

import sys
from typing import Any

import torch

compiler: Any = torch.compiler
"""Its ``_is_compiling_flag`` is what `is_compiling` returns outside of what Dynamo traces, after two more functions."""
compiler._is_compiling_flag  # noqa: B018 - it is there


def dynamo_is_there() -> bool:
    """Return whether the program has imported Dynamo, so that something may be compiled."""
    return "torch._dynamo" in sys.modules


def compilation_callbacks() -> Any:
    """Return what calls back where Dynamo starts and ends to compile; None while Dynamo is not there."""
    module = sys.modules.get("torch._dynamo.callback")
    return None if module is None else vars(module).get("callback_handler")


def compilation_told(*arguments: Any) -> tuple[str | None, str | None]:
    """Return the id of a compilation and what set it off, as those callbacks are told; None twice before torch 2.8."""
    if not arguments:
        return None, None
    return str(arguments[0].compile_id), arguments[0].callback_trigger.name.lower()


def compilation_metrics() -> list[Any]:
    """Return what Dynamo knows of the last compilations, the last one last."""
    utils = sys.modules.get("torch._dynamo.utils")
    found = None if utils is None else vars(utils).get("get_compilation_metrics")
    return [] if found is None else found()
