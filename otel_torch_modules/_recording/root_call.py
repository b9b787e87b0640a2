"""The call of a root module in a record of phases: it has a span, what it calls has none.

Every call below returns at its first test, as in a step that is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns as now
from typing import Any

import torch
from torch import nn

from otel_torch_modules._events import EXIT, EXIT_BARE
from otel_torch_modules._recording.marks import input_nodes, output_nodes
from otel_torch_modules._recording.modules.mode import is_made, mode_of
from otel_torch_modules._recording.thread_state import ThreadState
from otel_torch_modules._recording.torch_private.autograd import sequence_number
from otel_torch_modules._site import Site


def call_root(
    state: ThreadState,
    site: Site,
    original: Callable[..., Any],
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Call `module` and record the call alone.

    Args:
        state: of the thread, which says where to it is recorded.
        site: of the module.
        original: ``nn.Module.__call__``.
        module: the root.
        args: what it is called with.
        kwargs: the same.
    """
    log = state.into.log
    if log is None or not is_made(module):
        return original(module, *args, **kwargs)
    try:
        first = sequence_number()
        marking = state.into.has_room()
        if marking and torch.is_grad_enabled():
            state.attach_to_inputs(input_nodes(args, kwargs, site), first)
        if site.recorded:
            log.extend((site, state.code, first, now(), mode_of(module)))
    except BaseException:
        if state.fail("at the start of a root module's call"):
            raise
        return original(module, *args, **kwargs)

    state.root_only = site.recorded
    try:
        output = original(module, *args, **kwargs)
    except BaseException as error:
        if site.recorded:
            state.leave_by_exception(log, [site], error)
        raise
    finally:
        state.root_only = False

    try:
        end = now()
        last = sequence_number()
        nodes = output_nodes(output, first, site) if marking and last != first else ()
        if nodes:
            state.attach_to_outputs(nodes, first, last)
        if site.recorded:
            if not marking:
                state.into.truncate()
            tag = EXIT if nodes or not marking else EXIT_BARE
            log.extend((tag, state.code, last, end, None))
    except BaseException:
        if state.fail("at the end of a root module's call"):
            raise
    return output
