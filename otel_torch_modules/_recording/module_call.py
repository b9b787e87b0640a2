"""The call of a module, recorded: the hot path.

It is two functions, for a frame takes time for each name in it, and the calls of a step that is left out come no
further than to the first one. Names are bound around them so that each is one load; the order is that of the cost.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import update_wrapper
from time import perf_counter_ns as now
from types import CodeType
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch import is_grad_enabled as grad_enabled
from torch.compiler import is_dynamo_compiling

from otel_torch_modules._events import EXIT, EXIT_BARE, Detail
from otel_torch_modules._recording.contents import lone_tensor
from otel_torch_modules._recording.descriptions import describe_tensors
from otel_torch_modules._recording.marks import (
    base_node,
    input_nodes,
    node_before,
    node_of,
    output_nodes,
    view_node,
)
from otel_torch_modules._recording.modules.fqn import ModuleSites
from otel_torch_modules._recording.modules.mode import mode_of
from otel_torch_modules._recording.open_log import SLOTS_PER_MARK
from otel_torch_modules._recording.thread_state import Threads, ThreadState
from otel_torch_modules._recording.torch_private.autograd import sequence_number
from otel_torch_modules._recording.torch_private.compilation import compiler
from otel_torch_modules._recording.torch_private.modules import is_torch_call
from otel_torch_modules._recording.torch_private.tensors import torch_function_modes
from otel_torch_modules._site import Site
from otel_torch_modules._texts import NO_ROOM
from otel_torch_modules.config import Config

# Slots of a log that one span takes at least: half of the two events and the mark of a call.
_SLOTS_PER_SPAN = 8


class Wrapper(NamedTuple):
    """What stands in the place of ``nn.Module.__call__``."""

    call: Callable[..., Any]
    codes: frozenset[CodeType]
    """Of its frames around each call."""

    record_shapes: Callable[[bool], None]
    """Record shapes from now on, or no more, whatever the options say."""


# Calls a module that no other module's call calls: by what wrapper, by what else, which module, with what.
RootCalls = Callable[
    [Callable[..., Any], Callable[..., Any], nn.Module, tuple[Any, ...], dict[str, Any]], Any
]


def wrapper_around(
    original: Callable[..., Any],
    config: Config,
    threads: Threads,
    sites: ModuleSites,
    call_root: RootCalls,
    fail: Callable[[str], bool],
    call_fails: Callable[[object, str], bool],
) -> Wrapper:
    """Return `original` with recording around it.

    Args:
        original: calls a module.
        config: which modules are recorded, how deep, how many.
        threads: the state of each thread, which says whether and where to it is recorded.
        sites: of the modules.
        call_root: calls a root module, by what is returned here where the root is recorded.
        fail: see `Recorder.part_fails`.
        call_fails: the same, where it may be the program's error: see there.
    """
    site_of = sites.by_id.get
    add_site = sites.add
    died = sites.died
    bury = sites.bury
    calls_impl = is_torch_call(original)
    log_limit = config.max_spans_per_step * _SLOTS_PER_SPAN
    max_depth = config.max_depth or sys.maxsize
    record_shapes = config.record_shapes

    def turn_shapes(on: bool) -> None:
        nonlocal record_shapes  # what a call looks at is as near as it can be
        record_shapes = on or config.record_shapes

    def __call__(self: nn.Module, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        # `self` as torch calls it: its profiler takes it out of this frame by that name, and crashes without it. Not by
        # its place alone: who gives a second one, by name, hears of it as from torch.
        if is_dynamo_compiling():
            return original(self, *args, **kwargs)
        state = threads.state
        if state.stack is None:
            if calls_impl and self._compiled_call_impl is None:
                if kwargs:
                    return self._call_impl(*args, **kwargs)  # type: ignore[no-untyped-call]
                return self._call_impl(*args)  # type: ignore[no-untyped-call]
            return original(self, *args, **kwargs)
        if compiler._is_compiling_flag:
            return original(self, *args, **kwargs)
        if state.stack:
            return record_call(state, state.stack, self, args, kwargs)
        return call_root(__call__, original, self, args, kwargs)

    def record_call(
        state: ThreadState,
        stack: list[Site],
        module: nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        into = state.into
        log = into.log
        try:
            if died:
                bury()
            site = site_of(id(module)) or add_site(module, stack[-1])
            length = 0 if log is None else len(log)
            left_out = (
                (not site.recorded and site.wrapper in (None, stack[-1]))
                or log is None
                or len(stack) > max_depth
                or (length > log_limit and into.truncate())
            )
            if log is not None and not left_out:
                first = sequence_number()
                marking = length < into.marks_end or into.has_room()
                if marking and grad_enabled():
                    if len(args) == 1 and not kwargs:
                        given = args[0]
                    else:
                        given = lone_tensor(
                            (*args, *kwargs.values()) if kwargs else args, site.lone_input, site
                        )
                    if type(given) is Tensor and not torch_function_modes():
                        # What the last call returned, and no node was made since: its mark is this one's too.
                        if first != state.returned_at or id(given) != state.returned:
                            node = node_of(given) if given._is_view() else given.grad_fn
                            if node is not None:
                                number = node._sequence_nr()
                                if number != state.last_input:
                                    state.last_input = number
                                    if number != state.last_output:
                                        if state.first <= number < first:
                                            state.attach(node)
                                        else:
                                            state.attach_to_older(node)
                        state.first = first
                    else:
                        state.attach_to_inputs(input_nodes(args, kwargs, site), first)
                training: Any = module.training if site.keeps_mode else mode_of(module)
                if record_shapes:
                    training = Detail(training, describe_tensors((args, kwargs)))
                log.extend((site, state.code, first, now(), training))
                stack.append(site)
        except BaseException:
            if call_fails(module, "at the start of a module's call"):
                raise
            left_out = True
        if log is None or left_out:  # not above: the program's errors are none of ours
            return original(module, *args, **kwargs)

        try:
            if calls_impl and module._compiled_call_impl is None:
                output = module._call_impl(*args, **kwargs)  # type: ignore[no-untyped-call]
            else:
                output = original(module, *args, **kwargs)
        except BaseException as error:
            try:
                state.leave_by_exception(log, stack, error)
            except RecursionError:  # the program's stack is full: there is no room but here
                log += (EXIT, state.code, sequence_number(), now(), NO_ROOM)
                stack.pop()
                raise
            raise

        try:
            end = now()
            tag = EXIT_BARE
            last = sequence_number()
            if not marking:
                tag = EXIT
                into.truncate()
            elif last != first:  # else no node was made in here: there is nothing to mark
                result = output
                if type(output) is tuple:
                    result = lone_tensor(output, site.lone_result, site)
                if type(result) is not Tensor or torch_function_modes():
                    nodes = output_nodes(output, first, site)
                    if nodes:
                        tag = EXIT
                        state.attach_to_outputs(nodes, first, last)
                elif last == state.returned_at and id(result) == state.returned:
                    tag = EXIT  # by a call in here, which has marked it
                else:
                    is_view = result._is_view()
                    base = base_node(result, first, site) if is_view else None
                    node = base or (
                        view_node(result, args, kwargs, first) if is_view else result.grad_fn
                    )
                    if node is not None:
                        tag = EXIT
                        if base is not None or not is_view:
                            state.returned, state.returned_at = id(result), last
                        # An input that went through an operation in place, unless it is such a view.
                        if is_view and args and result is args[0] and first - state.last_output > 2:
                            into.marks_end -= SLOTS_PER_MARK
                            before = node_before(node, first)
                            if before is not None:
                                state.attach_mark(before)
                        number = node._sequence_nr()
                        if not first <= number < last:
                            state.attach_to_older(node)
                        elif number != state.last_output:
                            state.last_output = number
                            state.attach(node)
            log.extend(
                (
                    tag,
                    state.code,
                    last,
                    end,
                    Detail(None, describe_tensors(output)) if record_shapes else None,
                )
            )
            if state.minted:
                state.minted.pop(len(stack), None)
            stack.pop()
        except RecursionError:
            # Nothing was written yet: there was no room to look at what it returned.
            log += (EXIT, state.code, sequence_number(), now(), None)
            stack.pop()
            if fail("at the end of a module's call"):
                raise
        except BaseException:
            if fail("at the end of a module's call"):
                raise
        return output

    update_wrapper(__call__, original)
    return Wrapper(__call__, frozenset({__call__.__code__, record_call.__code__}), turn_shapes)
