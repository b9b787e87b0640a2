"""Where am I now? The modules whose forward or backward runs, live, for code that runs inside of them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils.hooks import RemovableHandle

from otel_torch_modules._allowed import shown
from otel_torch_modules._recording.contents import tensors
from otel_torch_modules._recording.modules.fqn import ModuleSites
from otel_torch_modules._recording.torch_private.autograd import (
    current_node,
    graph_task_id,
    queue_callback,
    sequence_number,
)
from otel_torch_modules._recording.torch_private.modules import forget_keywords
from otel_torch_modules._recording.torch_private.tensors import without_torch_function
from otel_torch_modules.tracker.backward import NO_NODE, Gradients, LiveBackward
from otel_torch_modules.tracker.calls import Edge, LiveCall, LiveRuler, node_of
from otel_torch_modules.tracker.frames import KnownFrame, calling_frame
from otel_torch_modules.tracker.stack import LiveStack

ForwardPreHook = Callable[[nn.Module, Any], Any]
ForwardHook = Callable[[nn.Module, Any, Any], Any]
BackwardHook = Callable[["nn.Module | None", Gradients], Any]

_MOST_MET = 4096  # things looked at in the arguments of a call, or its result


class _ThreadTracker(threading.local):
    """What is known of one thread. ``__init__`` runs once in each thread that asks."""

    def __init__(self, rulers: list[LiveRuler]) -> None:
        self.stack = LiveStack()
        self.ruler = LiveRuler()
        rulers.append(self.ruler)


class ModuleTracker:
    """Tells, at any time while it is entered, which modules are being run forward or backward.

    It works in forward, in backward (in tensor hooks, in the backward of custom functions), and while activation
    checkpointing recomputes. Calls are always properly nested: in backward too a module's parent opens before it and
    closes after it. It needs no tracer and no SDK, and costs more than recording does: it is for looking, not for
    leaving on.

    Names are class-rooted: ``GPT``, ``GPT.h.0.attn``; what follows the first dot is the module's prefix in
    ``state_dict``.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
        >>> seen = []
        >>> with ModuleTracker() as tracker:
        ...     output = model(torch.ones(1, 2))
        ...     handle = output.register_hook(lambda grad: seen.append(sorted(tracker.parents)))
        ...     output.sum().backward()
        >>> seen
        [['Global', 'Sequential', 'Sequential.1']]

    Limits: a compiled region is one with the module that was compiled. Where a tensor was made in another thread than
    the one that calls the module which takes it, that module's backward ends with what comes next, not at the tensor.
    A graph whose backward runs on several devices at once opens its modules once for each.
    """

    def __init__(self) -> None:
        self._sites = ModuleSites(lambda fqn, class_name: True)
        self._handles: list[RemovableHandle] = []
        self._pre_fw_hook: ForwardPreHook | None = None
        self._post_fw_hook: ForwardHook | None = None
        self._pre_bw_hook: BackwardHook | None = None
        self._post_bw_hook: BackwardHook | None = None
        self._start_afresh()

    def _start_afresh(self) -> None:
        self._rulers: list[LiveRuler] = []
        self._thread = _ThreadTracker(self._rulers)
        self._last_ruler = self._thread.ruler  # that a forward call was laid out on

    def __enter__(self) -> ModuleTracker:
        if self._handles:
            raise RuntimeError("this ModuleTracker is entered already")
        self._handles = [
            register_module_forward_pre_hook(self._before_forward),
            register_module_forward_hook(self._after_forward, with_kwargs=True, always_call=True),
        ]
        return self

    def __exit__(self, *exception: object) -> None:
        for handle in self._handles:
            handle.remove()
            forget_keywords(handle)
        self._handles = []
        for ruler in self._rulers:
            ruler.remove_marks()
        self._thread.stack.clear()
        self._start_afresh()

    @property
    def parents(self) -> set[str]:
        """The names of the modules that run in this thread now, forward or backward, and ``"Global"``: a new set."""
        self._thread.stack.heal(sys._getframe(1))
        return {"Global", *(call.fqn for call in self._running())}

    @property
    def is_bw(self) -> bool:
        """Whether a backward runs in this thread now."""
        return graph_task_id() != -1

    def get_known_fqn(self, module: nn.Module) -> str | None:
        """Return the name of `module`, None if neither it nor a module above it was called yet."""
        site = self._sites.by_id.get(id(module))
        return None if site is None else site.fqn

    def register_user_hooks(
        self,
        pre_fw_hook: ForwardPreHook | None = None,
        post_fw_hook: ForwardHook | None = None,
        pre_bw_hook: BackwardHook | None = None,
        post_bw_hook: BackwardHook | None = None,
    ) -> None:
        """Have functions called where a module's forward and backward begin and end.

        They are meant to look: what they return is ignored. While one runs, the module's name is in :attr:`parents`.
        In backward a module that is gone by then is passed as None.

        Args:
            pre_fw_hook: called with ``(module, inputs)``; `inputs` is the tuple of positional arguments.
            post_fw_hook: called with ``(module, inputs, output)``; `output` is None where forward raised. It is not
                called where forward was left by what is no ``Exception``, as ``KeyboardInterrupt``.
            pre_bw_hook: called with ``(module, grad_output)``: the gradients of those outputs at which backward came
                to the module, most often one. It is empty where backward comes from elsewhere, as from an output that
                was changed in place afterwards and was a view.
            post_bw_hook: called with ``(module, grad_input)``: one gradient for each tensor among the inputs that
                requires one, as a hook on that tensor would get it, so with what its other uses gave. It is None for
                leaves and for all inputs that backward has not come to when the module ends. It is not called where
                backward raised.

        Raises:
            ValueError: one of them is no function. None is registered then.
            AssertionError: a hook of one of these kinds is there already. None is registered then.
        """
        given = {
            "pre_fw_hook": pre_fw_hook,
            "post_fw_hook": post_fw_hook,
            "pre_bw_hook": pre_bw_hook,
            "post_bw_hook": post_bw_hook,
        }
        hooks = {kind: hook for kind, hook in given.items() if hook is not None}
        for kind, hook in hooks.items():
            if not callable(hook):
                raise ValueError(f"{kind}: {shown(hook)} is not allowed; it must be a function")
            if getattr(self, f"_{kind}") is not None:
                raise AssertionError(f"there is a {kind} already: call clear_user_hooks() first")
        for kind, hook in hooks.items():
            setattr(self, f"_{kind}", hook)

    def clear_user_hooks(self) -> None:
        """Remove what `register_user_hooks` registered."""
        self._pre_fw_hook = None
        self._post_fw_hook = None
        self._pre_bw_hook = None
        self._post_bw_hook = None

    # Forward

    def _before_forward(self, module: nn.Module, inputs: Any) -> None:
        if torch.compiler.is_compiling():
            return
        frame = calling_frame()
        stack, ruler = self._thread.stack, self._thread.ruler
        stack.heal(frame.f_back)
        parent = stack.innermost_call()
        if parent is None and not self.is_bw:
            site = self._sites.open(module).sites[id(module)]
        else:
            known = self._sites.by_id.get
            caller = None if parent is None else known(id(parent.module()))
            site = known(id(module)) or self._sites.add(module, caller)
        call = LiveCall(site.fqn, module, KnownFrame.of(frame), ruler, parent)
        self._mark_inputs(call, inputs)
        ruler.open(call, sequence_number())
        self._last_ruler = ruler
        stack.append(call)
        if self._pre_fw_hook is not None:
            self._pre_fw_hook(module, inputs)

    def _after_forward(self, module: nn.Module, inputs: Any, *rest: Any) -> None:
        if torch.compiler.is_compiling():
            return
        stack = self._thread.stack
        call = stack.return_to(calling_frame())
        if call is None:
            return  # it was running when the tracker was entered
        *keywords, output = rest  # no keywords after an exception
        try:
            if self._post_fw_hook is not None:
                self._post_fw_hook(module, inputs, output)
        finally:
            stack.pop()
            self._mark_inputs(call, keywords)
            self._mark_outputs(call, output)
            call.end = sequence_number()

    def _mark_inputs(self, call: LiveCall, values: Any) -> None:
        """Mark what made the inputs: when backward comes there, the call's backward is over."""
        with without_torch_function():
            for tensor in tensors(values, _MOST_MET):
                if tensor.requires_grad:
                    call.inputs.append(self._mark(call, tensor))

    def _mark_outputs(self, call: LiveCall, values: Any) -> None:
        """Mark what made the outputs: when backward comes there, the call's backward begins."""
        with without_torch_function():
            for tensor in tensors(values, _MOST_MET):
                edge = self._mark(call, tensor)
                if edge is not None:
                    call.outputs.append(edge)

    def _mark(self, call: LiveCall, tensor: Tensor) -> Edge | None:
        """Mark what made `tensor`; return its place in the graph, None for a leaf."""
        node = node_of(tensor)
        if node is None:
            return None
        self._mark_node(call, node)
        if tensor._is_view():
            # An operation in place gives the view another node, and the one that it has now never runs.
            made: Node | None = tensor._base.grad_fn  # type: ignore[union-attr]
            if made is not None:
                self._mark_node(call, made)
        return Edge(node._sequence_nr(), tensor.output_nr)

    def _mark_node(self, call: LiveCall, node: Node) -> None:
        if not call.ruler.has_mark(node):
            reach = partial(self._reach, call.ruler, node._sequence_nr(), call)
            call.ruler.keep_mark(node, node.register_prehook(reach))

    # Backward

    def _reach(self, ruler: LiveRuler, number: int, call: LiveCall, gradients: Gradients) -> None:
        """Backward has come to the node `number`. The mark has a `call` so that its calls live with the graph."""
        frame = sys._getframe(0).f_back
        stack = self._thread.stack
        stack.heal(frame)
        backward = stack.backward(graph_task_id())
        if backward is None:
            backward = LiveBackward(
                graph_task_id(),
                KnownFrame.of(frame),
                ruler,
                self._begin_backward,
                self._end_backward,
            )
            stack.append(backward)
            # Callbacks run in the order queued: from inside one, to come after those that the program queues.
            queue_callback(partial(queue_callback, partial(self._finish, stack, backward)))
        backward.reach(ruler, number, gradients)

    def _begin_backward(self, call: LiveCall, gradients: Gradients) -> None:
        if self._pre_bw_hook is not None:
            self._pre_bw_hook(call.module(), gradients)

    def _end_backward(self, call: LiveCall, gradients: Gradients) -> None:
        if self._post_bw_hook is not None:
            self._post_bw_hook(call.module(), gradients)

    @staticmethod
    def _finish(stack: LiveStack, backward: LiveBackward) -> None:
        if backward in stack:  # else the tracker was left meanwhile
            backward.finish()
            stack.remove(backward)

    def _running(self) -> Iterator[LiveCall]:
        """Yield the calls that run in this thread, forward and backward, of what `heal` has left."""
        stack = self._thread.stack
        now = stack.backward(graph_task_id())
        for entry in stack:
            if isinstance(entry, LiveCall):
                yield entry
            elif entry is not now:
                yield from entry.calls()
        if self.is_bw:
            yield from self._running_backward(now)

    def _running_backward(self, now: LiveBackward | None) -> list[LiveCall]:
        node = current_node()
        number = NO_NODE if node is None else node._sequence_nr()
        if now is not None:
            return now.calls_at(number)
        # No mark was reached yet: it can only be that the first is on this very node.
        path = self._last_ruler.path(number)
        return path if path and path[-1].has_output(number) else []
