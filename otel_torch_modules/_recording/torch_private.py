"""What is needed of torch that has no public name. ``make test-versions`` says on which versions it was checked.

Without one of them there is no tracing: the import fails and the door says so once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from inspect import getattr_static
from operator import methodcaller
from types import CodeType, FunctionType
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Variable
from torch.autograd.graph import Node
from torch.nn.modules import module as torch_module
from torch.optim import Optimizer
from torch.utils._pytree import SUPPORTED_NODES
from torch.utils.hooks import RemovableHandle

from otel_torch_modules._interruption import is_interruption
from otel_torch_modules._recording.frames import program_frame

_NEWEST_CHECKED: Final = (2, 14)

compiler: Any = torch.compiler
"""Its ``_is_compiling_flag`` is what `is_compiling` returns outside of what Dynamo traces, after two more functions."""
compiler._is_compiling_flag  # noqa: B018 - it is there

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


executes: Callable[[Node], bool] = torch._C._will_engine_execute_node
"""Whether the backward that runs in this thread runs the node; RuntimeError for a leaf that `autograd.grad` names."""

torch_function_modes: Callable[[], int] = torch._C._len_torch_function_stack
"""How many ``TorchFunctionMode`` are on: they would see that an attribute of a tensor is read."""

engine_call_code: CodeType = torch.autograd.graph._engine_run_backward.__code__
"""Of the function in which a thread waits for the autograd engine, or is it."""

optimizer_step_code: CodeType = Optimizer.profile_hook_step(lambda: None).__code__
"""Of the function around each optimizer's `step` that calls the hooks; its local ``self`` is the optimizer."""


_STAGES = "torch.distributed.pipelining.stage"
_STAGE_FORWARD = "forward_maybe_with_nosync"


def version_of(tensor: Tensor) -> int:
    """Return how often `tensor` was changed in place; 0 for one that does not count, of inference mode."""
    return 0 if tensor.is_inference() else tensor._version


def infers_shapes() -> bool:
    """Return whether the module that is called now is a pipeline's stage that finds out what its outputs are like.

    Checked on 2.13, and read in 2.6: that is in training mode, with gradients on, and on some ranks has a backward; but
    what trains is called from one method.
    """
    if _STAGES not in sys.modules:
        return False
    frame = program_frame()
    return (
        frame is not None
        and frame.f_globals.get("__name__") == _STAGES
        and frame.f_code.co_name != _STAGE_FORWARD
    )


def batches_given(iterator: Any) -> int:
    """Return how many batches a data loader's `iterator` has given since it began, or began anew."""
    return getattr(iterator, "_num_yielded", 0)


def index_sampler_id(iterator: Any) -> int:
    """Return what a data loader's iterators have in common."""
    return id(getattr(iterator, "_index_sampler", iterator))


def pytree_flattener(cls: type) -> Callable[[Any], tuple[Iterable[Any], Any]] | None:
    """Return what flattens an instance of `cls`, where that is registered as a pytree."""
    node = SUPPORTED_NODES.get(cls)
    return None if node is None else node.flatten_fn


def made_in_function(view: Tensor) -> bool:
    """Return whether `view` is one because an ``autograd.Function`` of Python's returned its input or a view of it."""
    return torch._C._autograd._get_creation_meta(view) == _IN_FUNCTION


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
    forward = vars(module).get("forward") or getattr_static(type(module), "forward", None)
    told = vars(forward) if isinstance(forward, FunctionType) else {}
    return "_torchdynamo_orig_callable" in told and "_torchdynamo_disable" not in told


def forget_keywords(handle: RemovableHandle) -> None:
    """Finish the removal of a global forward hook that took keyword arguments.

    Torch leaves a note of it behind, and `torch.compile` warns of global hooks from then on.
    """
    vars(torch_module).get("_global_forward_hooks_with_kwargs", {}).pop(handle.id, None)


def queue_callback(callback: Callable[[], None]) -> None:
    """Have the engine call `callback` when the backward that runs now has run all nodes."""
    Variable._execution_engine.queue_callback(callback)


def collectives_dump() -> str | None:
    """Return torch's ring of the last collectives as JSON; None where there is none.

    NCCL has had it long, gloo since 2.13. With two thousand in it this takes 76 ms.
    """
    engine: Any = sys.modules.get("torch._C._distributed_c10d")
    for name in ("_dump_fr_trace_json", "_dump_nccl_trace_json"):
        dump = getattr(engine, name, None)
        if dump is not None:
            text: str = dump(True, False)
            return text
    return None


def device_in_use() -> torch.device | None:
    """Return the device of the accelerator that is current in this thread; None where this process has used none."""
    try:
        accelerator = torch._C._accelerator_getAccelerator()
    except RuntimeError as error:  # torch 2.6, where there is none
        if is_interruption(error):
            raise
        return None
    module = getattr(torch, accelerator.type, None) if accelerator is not None else None
    if not getattr(module, "is_initialized", bool)():  # what asked on would begin to use it
        return None
    return torch.device(accelerator.type, torch._C._accelerator_getDeviceIndex())


def device_memory_stats(device: torch.device) -> Mapping[str, Any] | None:
    """Return what the allocator of `device`, which is current, counts; None where that cannot be known.

    Without the flattening and the sorting of ``torch.accelerator.memory_stats()``, which take seven times as long.
    Before torch 2.9 CUDA alone is asked.
    """
    stats = getattr(torch._C, "_accelerator_getDeviceStats", None)
    if stats is None:
        return torch.cuda.memory_stats_as_nested_dict() if device.type == "cuda" else None
    found: Mapping[str, Any] = stats(device.index)
    return found


def turn_to_device(device: torch.device) -> None:
    """Make `device` current in this thread: else CUDA may begin to use another one where something is asked of it."""
    if torch._C._accelerator_getDeviceIndex() != device.index:
        torch._C._accelerator_setDeviceIndex(device.index)


def stream_captures(device: torch.device) -> Callable[[], bool]:
    """Return what says whether the stream that is current on `device` captures a graph.

    Before torch 2.13 CUDA alone is asked; of another device it is not known.
    """
    if device.type == "cuda":
        return torch.cuda.is_current_stream_capturing
    if not hasattr(torch.Stream, "is_capturing"):
        return bool
    return lambda: torch.accelerator.current_stream().is_capturing()


def graph_classes() -> list[Any]:
    """Return the classes whose ``capture_begin`` and ``capture_end`` are around all captures that torch makes."""
    places = ((torch.cuda, "CUDAGraph"), (torch.xpu, "XPUGraph"), (torch.accelerator, "Graph"))
    return [vars(module)[name] for module, name in places if name in vars(module)]


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


class CollectiveOperator(NamedTuple):
    """An operator of ``c10d``, and where its arguments have what.

    Args:
        name: without ``c10d::``.
        overload: itself.
        group: the place of the process group.
        async_op: that of whether the caller goes on at once; None before torch 2.8 and where all do.
    """

    name: str
    overload: Any
    group: int
    async_op: int | None

    def is_async(self, args: tuple[Any, ...]) -> bool | None:
        """Return whether a caller with these arguments goes on at once; None where torch does not say."""
        if self.async_op is None:
            return None
        return bool(args[self.async_op]) if self.async_op < len(args) else True  # the default

    def launch(self, keys: Any, args: tuple[Any, ...]) -> Any:
        """Go on to torch's kernel without the interpreter lock: it may wait for a thread that wants that.

        ``torch.library.get_kernel`` has a way there too, which keeps the lock: with it gloo hangs now and then.
        """
        return self.overload.redispatch(keys & _AFTER_US, *args)


# No operator of `c10d` has a kernel there, and every call passes it: above the backends, below autograd.
_OURS: Final = "BackendSelect"
_AFTER_US: Final = torch._C._dispatch_keyset_full_after(torch._C.DispatchKey.BackendSelect)


def stand_before(
    names: Iterable[str], kernel: Callable[[CollectiveOperator], Callable[..., Any]]
) -> Callable[[], object]:
    """Have each operator of ``c10d`` with one of these names go through a kernel of Python's; return the undo.

    Args:
        names: of operators; those that this version has not are left out.
        kernel: returns that of an operator. It is called with the dispatch keys and the operator's arguments, without
            the last ones where these are the defaults, and has to return what `CollectiveOperator.launch` does.
    """
    library: Any = torch.library.Library("c10d", "IMPL")  # type: ignore[no-untyped-call]
    try:
        for name in names:
            operator = _collective_operator(name)
            if operator is not None:
                library.impl(name, kernel(operator), _OURS, with_keyset=True)
    except BaseException:
        library._destroy()
        raise
    undo: Callable[[], object] = library._destroy
    return undo


def _collective_operator(name: str) -> CollectiveOperator | None:
    try:
        overload = getattr(torch.ops.c10d, name).default
    except AttributeError as error:
        if is_interruption(error):
            raise
        return None
    places = {argument.name: place for place, argument in enumerate(overload._schema.arguments)}
    return CollectiveOperator(
        name, overload, places["process_group"], places.get("async_op", places.get("asyncOp"))
    )


def tells_when_done(result: Any, callback: Callable[[Any], object]) -> bool:
    """Have `callback` called when what an operator of ``c10d`` has launched is done; return whether its work says that.

    Args:
        result: what the operator returned.
        callback: called once, in a thread of the backend's, or now.
    """
    work = result[-1] if isinstance(result, (tuple, list)) else result
    if isinstance(work, torch.ScriptObject):
        work = torch.distributed.Work.unbox(work)
    try:
        work.get_future().add_done_callback(callback)
    except RuntimeError as error:  # it has no future
        if is_interruption(error):
            raise
        return False
    return True


def group_of(boxed: Any) -> tuple[str, int]:
    """Return the name of a process group that an operator is given, and how many ranks it has."""
    group = boxed
    if isinstance(boxed, torch.ScriptObject):
        group = torch.distributed.ProcessGroup.unbox(boxed)
    described = group.group_desc
    return (group.group_name if described in ("", "undefined") else described), group.size()


class InductorPasses:
    """What Inductor lets look at each graph before it is made into kernels, with ours behind what the program has set.

    Checked on 2.13, which takes several; before that one pass is both. Read in 2.6: all have the one setting.

    Args:
        ours: changes a graph of `torch.fx`.
        identifier: says what it does, for the keys of Inductor's caches; to be pickled.
    """

    def __init__(self, ours: Callable[[Any], None], identifier: object) -> None:
        from torch._inductor import config, custom_graph_pass

        self._inductor: Any = config
        self._kinds: Any = custom_graph_pass
        self._ours = self._pass(self._kinds.CustomGraphPass, ours, identifier)
        self._theirs: Any = None
        self._set: Any = None

    @property
    def replayed(self) -> bool:
        """Whether what is made now is captured, to be replayed by the device."""
        return bool(self._inductor.triton.cudagraphs)

    def add(self) -> None:
        """Put ours there, where it is not."""
        found = self._inductor.post_grad_custom_post_pass
        if self._set is not None and found is self._set:
            return
        if isinstance(found, (list, tuple)) and self._ours in found:
            return
        self._theirs = found
        self._set = self._inductor.post_grad_custom_post_pass = self._behind(found)

    def remove(self) -> None:
        """Undo `add`, unless the program has set others since."""
        if self._set is not None and self._inductor.post_grad_custom_post_pass is self._set:
            self._inductor.post_grad_custom_post_pass = self._theirs
        self._set = None

    def _behind(self, theirs: Any) -> Any:
        several = vars(self._kinds).get("get_custom_graph_passes")
        if several is not None:
            return (*several(theirs), self._ours)
        if theirs is None:
            return self._ours
        known = isinstance(theirs, self._kinds.CustomGraphPass) and theirs.uuid()
        aware = vars(self._kinds).get("CustomInferenceAwareGraphPass", ())
        kind = aware if isinstance(theirs, aware) else self._kinds.CustomGraphPass

        def both(graph: Any, *about: Any, **more: Any) -> None:
            theirs(graph, *about, **more)
            self._ours(graph)

        return self._pass(kind, both, (known, self._ours.uuid()) if known else None)

    @staticmethod
    def _pass(kind: Any, call: Callable[..., None], identifier: object) -> Any:
        def run(_: Any, *arguments: Any, **more: Any) -> None:
            call(*arguments, **more)

        return type("MarksAtBorders", (kind,), {"__call__": run, "uuid": lambda _: identifier})()


def modules_of(node: Any) -> Mapping[str, Any] | None:
    """Return the modules in whose forward a `node` of a graph of Inductor's was made, outermost first, as pairs of
    where they are found and their class. Checked on 2.13: the compiled one is found as ``L['self']``, and left out.
    """
    found: Mapping[str, Any] | None = node.meta.get("nn_module_stack")
    return found


def gradient_of(node: Any) -> Mapping[str, Any] | None:
    """Return the same of the node of the forward of which `node` is the gradient."""
    found: Mapping[str, Any] | None = node.meta.get("fwd_nn_module_stack")
    return found


def is_gradient(node: Any) -> bool:
    """Return whether `node` is a gradient with which a backward begins: its graph is that of a backward."""
    return node.op == "placeholder" and "tangents" in node.name


def inductor_passes(ours: Callable[[Any], None], identifier: object) -> InductorPasses | None:
    """Return Inductor's passes, with `ours` to be added; None while Dynamo is not there."""
    return InductorPasses(ours, identifier) if dynamo_is_there() else None


class MarkHooks(dict[int, Callable[[Any], None]]):
    """Hooks that marked nodes share; each node holds them once."""

    __slots__ = ("__weakref__",)


def mark_carrier(mark: Callable[[Any], None]) -> Tensor:
    """Return what :func:`marks_by` puts on nodes: a tensor with `mark` as its hook.

    `Tensor.register_hook` shares a dictionary of hooks between a tensor and its node by ``_register_hook_dict``. A
    tensor of our own can share its dictionary with any number of nodes: a tenth of the cost of
    `Node.register_prehook`, which makes a dictionary and a handle for each.
    """
    with (
        torch.inference_mode(False),
        torch._C._DisableTorchDispatch(),
        torch._C.DisableTorchFunction(),
    ):
        carrier = torch.empty(0, device="cpu", requires_grad=True)
        carrier._backward_hooks = MarkHooks({0: mark})  # type: ignore[assignment]
    return carrier


def marks_by(carrier: Tensor) -> Callable[[Node], None]:
    """Return what has the carrier's mark called whenever backward comes to a node, also where it ends there."""
    return methodcaller("_register_hook_dict", carrier)


def is_unchecked() -> bool:
    """Return whether this torch is newer than all that this was checked on; then it may still do."""
    return (*map(int, torch.__version__.split(".")[:2]),) > _NEWEST_CHECKED
