"""Each name of torch that is not public does what is said of it: a version that lacks one says which."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch._dynamo
from torch import Tensor, distributed, nn
from torch._C._distributed_c10d import HashStore, ProcessGroup
from torch._inductor import config as inductor
from torch._inductor import custom_graph_pass
from torch._inductor.custom_graph_pass import CustomGraphPass
from torch.autograd.graph import Node
from torch.distributed.pipelining import stage as pipeline_stage
from torch.overrides import TorchFunctionMode
from torch.utils.data import DataLoader

from otel_torch_modules._recording import dynamo, torch_private
from otel_torch_modules.testing import capture_spans


def node_of(tensor: Tensor) -> Node:
    assert tensor.grad_fn is not None
    return tensor.grad_fn


def leaf() -> Tensor:
    return torch.ones(2, requires_grad=True)


def in_backward(ask: Any) -> list[Any]:
    """Return what `ask` returns when it is called by a hook of a node in backward."""
    answers: list[Any] = []
    out = leaf() * 2
    out.register_hook(lambda _: answers.append(ask()))
    out.sum().backward()
    return answers


def test_graph_task_id() -> None:
    assert torch_private.graph_task_id() == -1
    (task,) = in_backward(torch_private.graph_task_id)
    assert task >= 0


def test_current_node() -> None:
    nodes = []
    out = leaf() * 2
    out.register_hook(lambda _: nodes.append(torch_private.current_node()))
    out.sum().backward()
    assert nodes == [node_of(out)]


def test_current_number() -> None:
    numbers = []
    out = leaf() * 2
    out.register_hook(lambda _: numbers.append(torch_private.current_number()))
    out.sum().backward()
    assert numbers == [node_of(out)._sequence_nr()]


def test_sequence_number() -> None:
    before = torch_private.sequence_number()
    first = leaf() * 2
    second = first * 2
    numbers = [node_of(first)._sequence_nr(), node_of(second)._sequence_nr()]
    assert numbers == [before, before + 1]
    assert torch_private.sequence_number() == before + 2


def test_executes() -> None:
    inside, outside = leaf() * 2, leaf() * 2
    answers = []
    out = inside * 2
    out.register_hook(
        lambda _: answers.extend(
            torch_private.executes(node_of(made)) for made in (inside, outside)
        )
    )
    out.sum().backward()
    assert answers == [True, False]


def test_torch_function_modes() -> None:
    class Mode(TorchFunctionMode):
        pass

    before = torch_private.torch_function_modes()
    with Mode():
        assert torch_private.torch_function_modes() == before + 1
    assert torch_private.torch_function_modes() == before


def test_optimizer_step_code() -> None:
    frames = []
    optimizer = torch.optim.SGD([leaf()], lr=0.1)

    def closure() -> None:
        frame = inspect.currentframe()
        while frame is not None:
            if frame.f_code is torch_private.optimizer_step_code:
                frames.append(frame.f_locals["self"])
            frame = frame.f_back

    optimizer.step(closure)
    assert frames == [optimizer]


class KeyedPass(CustomGraphPass):
    """Says that it has seen a graph, and to caches what it does."""

    def __call__(self, graph: Any) -> None:
        graph.append("keyed")

    def uuid(self) -> str:
        return "keyed"


def plain_pass(graph: Any) -> None:
    """Say that it has seen a graph, and nothing to caches."""
    graph.append("plain")


# Before 2.13 there may be one alone.
SEVERAL = ["keyed", "plain"] if hasattr(custom_graph_pass, "get_custom_graph_passes") else None
THEIRS: list[tuple[Any, list[str]]] = [
    (None, []),
    (KeyedPass(), ["keyed"]),
    (plain_pass, ["plain"]),
    *([((KeyedPass(), plain_pass), SEVERAL)] if SEVERAL else []),
]


def seen_by(passes: Any) -> list[str]:
    """Return who has seen a graph that is given to what Inductor's setting has."""
    graph: list[str] = []
    for one in passes if isinstance(passes, tuple) else (passes,):
        one(graph)
    return graph


def inductor_passes() -> torch_private.InductorPasses:
    passes = torch_private.inductor_passes(lambda graph: graph.append("ours"), "identifier")
    assert passes is not None
    return passes


@pytest.mark.parametrize(("theirs", "seen"), THEIRS)
def test_inductor_passes(theirs: Any, seen: list[str]) -> None:
    passes = inductor_passes()
    with inductor.patch(post_grad_custom_post_pass=theirs):
        passes.add()
        both = inductor.post_grad_custom_post_pass
        passes.add()
        assert inductor.post_grad_custom_post_pass is both
        assert seen_by(both) == [*seen, "ours"]
        passes.remove()
        assert inductor.post_grad_custom_post_pass is theirs


def test_inductorpasses_know_what_is_replayed() -> None:
    passes = inductor_passes()
    assert not passes.replayed
    with inductor.patch({"triton.cudagraphs": True}):
        assert passes.replayed


def test_inductorpasses_that_the_program_sets_later_are_kept() -> None:
    passes = inductor_passes()
    with inductor.patch(post_grad_custom_post_pass=None):
        passes.add()
        inductor.post_grad_custom_post_pass = theirs = KeyedPass()
        passes.add()
        assert seen_by(inductor.post_grad_custom_post_pass) == ["keyed", "ours"]
        passes.remove()
        assert inductor.post_grad_custom_post_pass is theirs
        passes.add()
        inductor.post_grad_custom_post_pass = None
        passes.remove()
        assert inductor.post_grad_custom_post_pass is None


@pytest.mark.parametrize(
    ("theirs", "seen", "identifier"),
    [
        (None, [], "identifier"),
        (KeyedPass(), ["keyed"], ("keyed", "identifier")),
        (plain_pass, ["plain"], None),
    ],
)
def test_inductorpasses_are_one_where_it_takes_one(
    theirs: Any, seen: list[str], identifier: object
) -> None:
    passes = inductor_passes()
    passes._kinds = SimpleNamespace(CustomGraphPass=CustomGraphPass)  # has no function for several
    both = passes._behind(theirs)
    assert seen_by(both) == [*seen, "ours"]
    assert (both.uuid(), isinstance(both, CustomGraphPass)) == (identifier, True)


def test_dynamo_is_there() -> None:
    asked = "from otel_torch_modules._recording.torch_private import dynamo_is_there as there\n"
    program = f"{asked}print(there())\nimport torch._dynamo\nprint(there())"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "True"]


def test_modules_of_and_gradient_of_and_is_gradient() -> None:
    """What Inductor's graphs say of nodes: of a compiled model's, forward and backward."""
    told: dict[str, set[str]] = {"modules_of": set(), "gradient_of": set(), "is_gradient": set()}

    def look(graph: Any) -> None:
        for node in graph.nodes:
            for name in ("modules_of", "gradient_of"):
                stack = getattr(torch_private, name)(node) or {}
                told[name] |= {path for path, _ in stack.values()}
            if torch_private.is_gradient(node):
                told["is_gradient"].add(node.op)

    passes = torch_private.inductor_passes(look, None)
    assert passes is not None

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x).relu()

    model = Model()
    model.compile()
    with inductor.patch(post_grad_custom_post_pass=None):
        passes.add()
        model(torch.ones(1, 2, requires_grad=True)).sum().backward()
        passes.remove()
    torch._dynamo.reset()
    assert told["modules_of"] == told["gradient_of"] == {"L['self'].fc"}
    assert told["is_gradient"] == {"placeholder"}


def test_version_of() -> None:
    tensor = torch.ones(1)
    versions = [torch_private.version_of(tensor)]
    tensor += 1
    versions.append(torch_private.version_of(tensor))
    with torch.inference_mode():
        versions.append(torch_private.version_of(torch.ones(1)))
    assert versions == [0, 1, 0]


def test_runs_compiled_code() -> None:
    class Layer(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    class Decorated(Layer):
        forward = torch.compile(Layer.forward)  # type: ignore[assignment]

    class Kept(Layer):
        forward = torch.compiler.disable(Layer.forward)  # type: ignore[assignment]

    in_place, own_forward = Layer(), Layer()
    in_place.compile()
    own_forward.forward = torch.compile(own_forward.forward)  # type: ignore[method-assign]
    modules = (in_place, own_forward, Decorated(), Layer(), Kept())
    answers = [torch_private.runs_compiled_code(module) for module in modules]
    assert answers == [True, True, True, False, False]


def test_infers_shapes() -> None:
    namespace: dict[str, Any] = {
        "__name__": pipeline_stage.__name__,
        "infers": torch_private.infers_shapes,
    }
    exec(
        "def forward_maybe_with_nosync():\n    return infers()\ndef _other():\n    return infers()\n",
        namespace,
    )
    trains, other = namespace["forward_maybe_with_nosync"], namespace["_other"]
    assert (trains(), other(), torch_private.infers_shapes()) == (False, True, False)
    assert callable(getattr(pipeline_stage.PipelineStage, trains.__name__))


def test_batches_given() -> None:
    iterator = iter(DataLoader([0, 1, 2]))  # type: ignore[arg-type]
    next(iterator)
    next(iterator)
    assert torch_private.batches_given(iterator) == 2
    assert torch_private.batches_given(object()) == 0


def test_index_sampler_id() -> None:
    loader, other = DataLoader([0]), DataLoader([0])  # type: ignore[arg-type]
    first = torch_private.index_sampler_id(iter(loader))
    assert torch_private.index_sampler_id(iter(loader)) == first
    assert torch_private.index_sampler_id(iter(other)) != first


def test_pytree_flattener() -> None:
    flatten = torch_private.pytree_flattener(dict)
    assert flatten is not None
    assert list(flatten({"a": 1, "b": 2})[0]) == [1, 2]
    assert torch_private.pytree_flattener(int) is None


def test_markhooks_are_held_once_by_each_node_that_lives() -> None:
    carrier = torch_private.mark_carrier(lambda _: None)
    hooks = carrier._backward_hooks
    assert isinstance(hooks, torch_private.MarkHooks)
    before = sys.getrefcount(hooks)
    outs = [leaf() * 2 for _ in range(3)]
    for out in outs:
        torch_private.marks_by(carrier)(node_of(out))
    assert sys.getrefcount(hooks) == before + 3
    del out, outs
    assert sys.getrefcount(hooks) == before


def test_made_in_function() -> None:
    class Same(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, values: Tensor) -> Tensor:
            return values

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> Tensor:
            return gradients[0]

    assert torch_private.made_in_function(Same.apply(leaf() * 2))  # type: ignore[no-untyped-call]
    assert not torch_private.made_in_function((leaf() * 2).view(2, 1))


def test_compiler() -> None:
    answers = []

    class Asks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            answers.append(
                (torch_private.compiler._is_compiling_flag, torch.compiler.is_compiling())
            )
            return x + 1

    Asks()(torch.ones(2))
    torch.export.export(Asks(), (torch.ones(2),), strict=False)
    assert answers[0] == (False, False)
    assert set(answers[1:]) == {(True, True)}


def test_is_torch_call() -> None:
    assert torch_private.is_torch_call(nn.Module.__call__)
    assert not torch_private.is_torch_call(lambda module: None)


def test_forget_keywords() -> None:
    hooks = nn.modules.module
    handle = hooks.register_module_forward_hook(lambda *_: None, with_kwargs=True)
    handle.remove()
    torch_private.forget_keywords(handle)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not vars(hooks).get("_global_forward_hooks_with_kwargs")


def test_queue_callback() -> None:
    events: list[str] = []
    out = leaf() * 2
    out.register_hook(lambda _: torch_private.queue_callback(lambda: events.append("end")))
    values = out * 3
    out.register_hook(lambda _: events.append("node"))
    values.sum().backward()
    assert events == ["node", "end"]


def test_mark_carrier_and_marks_by_MarkHooks() -> None:  # noqa: N802
    marked = []
    carrier = torch_private.mark_carrier(lambda _: marked.append(torch_private.current_node()))
    assert type(carrier._backward_hooks) is torch_private.MarkHooks
    first = leaf() * 2
    second = first * 3
    for made in (first, second):
        torch_private.marks_by(carrier)(node_of(made))
    second.sum().backward()
    assert marked == [node_of(second), node_of(first)]


def test_is_unchecked(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "otel_torch_modules"):
        with capture_spans():
            pass
        assert caplog.messages == []
        monkeypatch.setattr(torch_private, "_NEWEST_CHECKED", (2, 0))
        with capture_spans():
            pass
    assert caplog.messages == [f"Tracing has not been tried with torch {torch.__version__} yet"]


def test_compilation_callbacks_compilation_told_and_compilation_metrics() -> None:
    told: list[tuple[Any, ...]] = []
    torch._dynamo.reset()
    handler = torch_private.compilation_callbacks()
    end = handler.register_end_callback(lambda *arguments: told.append(arguments))
    try:
        torch.compile(lambda x: x * 2, backend="eager")(torch.ones(1))
    finally:
        handler.remove_end_callback(end)
    (arguments,) = told
    identifier, trigger = torch_private.compilation_told(*arguments)
    if arguments:  # from torch 2.8 on
        last = torch_private.compilation_metrics()[-1]
        assert (identifier, trigger) == (str(last.compile_id), "dynamo")
        assert (last.co_name, last.co_filename) == ("<lambda>", __file__)
    assert torch_private.compilation_told() == (None, None)


def test_collectives_dump(tmp_path: Path) -> None:
    distributed.init_process_group("gloo", f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        distributed.all_reduce(torch.ones(1))
        dump = torch_private.collectives_dump()
    finally:
        distributed.destroy_process_group()
    names = [entry["profiling_name"] for entry in json.loads(dump or "{}").get("entries", ())]
    since = (
        2,
        13,
    )  # gloo has one; a torch for CUDA has NCCL's before that, with nothing of gloo's in it
    is_there = tuple(map(int, torch.__version__.split(".")[:2])) >= since
    assert names[-1:] == ["gloo:all_reduce"] * is_there


def test_device_in_use_and_device_memory_stats() -> None:
    device = torch_private.device_in_use()
    assert device is None or torch_private.device_memory_stats(device)  # most often none is used


def test_turn_to_device_and_stream_captures() -> None:
    device = torch_private.device_in_use()
    if device is not None:
        torch_private.turn_to_device(device)
        assert torch.accelerator.current_device_index() == device.index
        assert torch_private.stream_captures(device)() is False
    assert callable(torch_private.stream_captures(torch.device("cuda")))


def test_graph_classes() -> None:
    found = torch_private.graph_classes()
    assert torch.cuda.CUDAGraph in found
    assert all(callable(kind.capture_begin) and callable(kind.capture_end) for kind in found)


class Two:
    """A process group of two ranks, each of which is a thread of this process."""

    def __init__(self) -> None:
        self._store = HashStore()
        self.groups = self.each(self._group)

    def each(self, call: Callable[[int], Any]) -> list[Any]:
        """Return what `call` returns for each rank; both call at once."""
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(call, range(2)))

    def _group(self, rank: int) -> ProcessGroup:
        group = ProcessGroup(self._store, rank, 2)
        gloo = distributed.ProcessGroupGloo(self._store, rank, 2, timedelta(seconds=20))
        group._register_backend(torch.device("cpu"), ProcessGroup.BackendType.GLOO, gloo)
        group._set_default_backend(ProcessGroup.BackendType.GLOO)
        return group


def test_stand_before_a_collectiveoperator_whose_kernel_waits_for_another_thread() -> None:
    """It waits without the interpreter lock, which that thread needs."""
    two = Two()
    before = torch._C._dispatch_dump("c10d::monitored_barrier_")
    passed: list[tuple[str, int]] = []

    def kernel(operator: torch_private.CollectiveOperator) -> Callable[..., Any]:
        def call(keys: Any, *args: Any) -> Any:
            passed.append(torch_private.group_of(args[operator.group]))
            return operator.launch(keys, args)

        return call

    undo = torch_private.stand_before(["monitored_barrier_", "of_no_version"], kernel)
    try:
        two.each(lambda rank: two.groups[rank].monitored_barrier(timedelta(seconds=20), False))
    finally:
        undo()
    assert [size for _, size in passed] == [2, 2]
    assert torch._C._dispatch_dump("c10d::monitored_barrier_") == before
    two.each(lambda rank: two.groups[rank].monitored_barrier(timedelta(seconds=20), False))
    assert len(passed) == 2


def test_tells_when_done_and_group_of() -> None:
    two = Two()
    names: list[str] = []
    told: list[bool] = []
    done = threading.Semaphore(0)

    def kernel(operator: torch_private.CollectiveOperator) -> Callable[..., Any]:
        def call(keys: Any, *args: Any) -> Any:
            result = operator.launch(keys, args)
            names.append(torch_private.group_of(args[operator.group])[0])
            told.append(torch_private.tells_when_done(result, lambda _: done.release()))
            return result

        return call

    for group in two.groups:
        group._set_group_name("7")
    undo = torch_private.stand_before(["allreduce_"], kernel)
    try:
        tensors = two.each(lambda _: torch.ones(2))
        works = [
            group.allreduce([tensor]) for group, tensor in zip(two.groups, tensors, strict=True)
        ]
        for work in works:
            work.wait()
    finally:
        undo()
    assert [tensor.tolist() for tensor in tensors] == [[2.0, 2.0], [2.0, 2.0]]
    assert done.acquire(timeout=20)
    assert done.acquire(timeout=20)
    assert (names, told) == (["7", "7"], [True, True])
    assert not torch_private.tells_when_done(distributed.Work(), print)
    two.groups[0]._set_group_desc("data")
    assert torch_private.group_of(two.groups[0]) == ("data", 2)


def test_skip_frames_of() -> None:
    def function() -> int:
        return 1

    dynamo._skip(function.__code__)
    assert function() == 1


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, value in vars(torch_private).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == torch_private.__name__
    ],
)
def test_each_has_a_test(name: str) -> None:
    assert any(name.lower() in test for test in globals() if test.startswith("test_"))
