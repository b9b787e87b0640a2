"""What Dynamo compiles, and what it says of that."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType
from typing import Any, Final

import torch
import torch._C._dynamo.eval_frame as eval_frame

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


def told_by_dynamo(tell: Callable[[], None]) -> Callable[[], None]:
    """Return what calls `tell` while Dynamo traces a call of it, and leaves nothing of that in what is compiled.

    ``torch.compiler.assume_constant_result`` does no more, but imports Dynamo.
    """

    def told() -> None:
        tell()

    vars(told)["_dynamo_marked_constant"] = True
    return told


GRAPH_RUNNERS: Final = ("torch._functorch._aot_autograd", "torch._dynamo.compiled_autograd")
"""Modules of torch that run compiled graphs."""


def skip_frames_of(code: CodeType) -> None:
    """Have Dynamo never compile a frame of `code` as one of its own."""
    _skip(code)


def _skip_code() -> Callable[[CodeType], object]:
    if hasattr(eval_frame, "set_code_exec_strategy"):
        action = eval_frame._FrameAction
        strategy = eval_frame._FrameExecStrategy(action.SKIP, action.DEFAULT)
        return lambda code: eval_frame.set_code_exec_strategy(code, strategy)
    skip: Callable[[CodeType], object] = vars(eval_frame)["skip_code"]  # of earlier versions
    return skip


_skip = _skip_code()
