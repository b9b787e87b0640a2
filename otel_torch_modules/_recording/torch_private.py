"""What is needed of torch that has no public name. Checked on torch 2.6, 2.13 and 2.15.

Without one of the first four there is no tracing: the import fails and the door says so once. Without
``_BaseDataLoaderIter`` the wait for data is not seen.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.autograd import Variable
from torch.autograd.graph import Node

graph_task_id: Callable[[], int] = torch._C._current_graph_task_id
"""The id of the backward that runs in this thread, -1 outside."""

current_node: Callable[[], Node] = torch._C._current_autograd_node
"""The node whose hooks run in this thread."""

sequence_number: Callable[[], int] = torch.autograd._get_sequence_nr  # type: ignore[attr-defined]
"""The number that the next node made in this thread gets."""

torch_function_modes: Callable[[], int] = torch._C._len_torch_function_stack
"""How many ``TorchFunctionMode`` are on: they would see that an attribute of a tensor is read."""


def queue_callback(callback: Callable[[], None]) -> None:
    """Have the engine call `callback` when the backward that runs now has run all nodes."""
    Variable._execution_engine.queue_callback(callback)
