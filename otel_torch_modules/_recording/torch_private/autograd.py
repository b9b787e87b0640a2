"""What autograd's engine and its graph do not say in public."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType
from typing import Final

import torch
from torch import Tensor
from torch.autograd import Variable
from torch.autograd.graph import Node
from torch.utils.checkpoint import _StopRecomputationError

_IN_FUNCTION: Final = torch._C._autograd.CreationMeta.IN_CUSTOM_FUNCTION

graph_task_id: Callable[[], int] = torch._C._current_graph_task_id
"""The id of the backward that runs in this thread, -1 outside."""

current_node: Callable[[], Node | None] = torch._C._current_autograd_node
"""The node whose hooks run in this thread; None where another engine runs it, compiled or distributed autograd's."""

sequence_number: Callable[[], int] = torch.autograd._get_sequence_nr  # type: ignore[attr-defined]
"""The number that the next node made in this thread gets."""


def current_number() -> int:
    """Return the sequence number of the node whose hooks run in this thread; -1 while a compiled backward runs."""
    node = current_node()
    return -1 if node is None else node._sequence_nr()


def runs_compiled_backward() -> bool:
    """Return whether compiled autograd runs a backward now: it calls nothing of what is queued."""
    module = sys.modules.get("torch._dynamo.compiled_autograd")
    return module is not None and vars(module).get("in_compiled_autograd_region", False) is True


executes: Callable[[Node], bool] = torch._C._will_engine_execute_node
"""Whether the backward that runs in this thread runs the node; RuntimeError for a leaf that `autograd.grad` names."""

engine_call_code: CodeType = torch.autograd.graph._engine_run_backward.__code__
"""Of the function in which a thread waits for the autograd engine, or is it."""


def made_in_function(view: Tensor) -> bool:
    """Return whether `view` is one because an ``autograd.Function`` of Python's returned its input or a view of it."""
    return torch._C._autograd._get_creation_meta(view) == _IN_FUNCTION


queue_callback: Callable[[Callable[[], None]], None] = Variable._execution_engine.queue_callback
"""Have the engine call what is given when the backward that runs now has run all nodes."""


RECOMPUTED: Final = _StopRecomputationError
"""What ends a recomputation early, where nothing more of it is needed: no error."""
