"""Every collective of a recorded step has a span, whoever calls it, and is the program's own all the same."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any
from weakref import ref

import pytest
import torch
import torch.distributed._functional_collectives as functional
from torch import Tensor, distributed
from torch._C._distributed_c10d import HashStore
from torch.fx import GraphModule
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

import otel_torch_modules
from otel_torch_modules import Config, Schedule
from otel_torch_modules._recording.causes import checkpoints, collectives
from otel_torch_modules._recording.causes.causes import Causes
from otel_torch_modules._recording.recorder import Recorder
from otel_torch_modules._records import Record
from otel_torch_modules.testing import CapturedSpan, capture_spans
from tests.support.caused import Clock, path_to, traced, train
from tests.support.small_training import BACKWARD, FORWARD, Net, batch, optimizer, step

OPERATORS = [f"c10d::{name}" for name in collectives._KINDS]


@pytest.fixture(autouse=True)
def group() -> Iterator[None]:
    """A process group of this process alone."""
    distributed.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def dispatcher() -> list[str]:
    """Return all that the dispatcher knows of the operators."""
    there = set(torch._C._dispatch_get_all_op_names())
    return [torch._C._dispatch_dump(name) for name in OPERATORS if name in there]


def two() -> Tensor:
    return torch.ones(2, 3)


def told(span: CapturedSpan) -> dict[str, Any]:
    """Return what a collective says of itself."""
    prefix = "torch.collective."
    return {
        name.removeprefix(prefix): value
        for name, value in span.attributes.items()
        if name.startswith(prefix)
    }


SIX = 6 * 4  # bytes of `two`

# What is called, what it is called in a trace, how many bytes this rank gives (of `scatter`: takes), and whether gloo
# says when it is done.
CALLS: list[tuple[Callable[[], object], str, int | None, bool]] = [
    (lambda: distributed.all_reduce(two()), "all_reduce", SIX, True),
    (lambda: distributed.all_reduce(two().double()), "all_reduce", 2 * SIX, True),
    (lambda: distributed.broadcast(two(), 0), "broadcast", SIX, True),
    (lambda: distributed.reduce(two(), 0), "reduce", SIX, True),
    (lambda: distributed.all_gather([two()], two()), "all_gather", SIX, True),
    (lambda: distributed.all_gather_into_tensor(two(), two()), "all_gather", SIX, True),
    (lambda: distributed.reduce_scatter_tensor(two(), two()), "reduce_scatter", SIX, False),
    (lambda: distributed.all_to_all_single(two(), two()), "all_to_all", SIX, True),
    (lambda: distributed.gather(two(), [two()], 0), "gather", SIX, True),
    (lambda: distributed.scatter(two(), [two()], 0), "scatter", SIX, True),
    (distributed.barrier, "barrier", None, True),
    (
        lambda: functional.all_reduce(two(), "sum", distributed.group.WORLD) + 1,
        "all_reduce",
        SIX,
        True,
    ),
]


@pytest.mark.parametrize(("call", "name", "size", "completed"), CALLS)
@pytest.mark.parametrize("place", ["in_forward", "in_backward", "before_step"])
def test_each_is_below_what_was_open(
    place: str, call: Callable[[], object], name: str, size: int | None, completed: bool
) -> None:
    above = {
        "in_forward": ["train.step", "forward Net"],
        "in_backward": ["train.step", "backward"],  # and below no module
        "before_step": ["train.step"],
    }
    clock = Clock()

    def timed() -> None:
        with clock.around():
            call()

    trees, parameters = traced(**{place: timed})
    assert parameters == train()
    assert path_to(trees[1], name) == [*above[place], name]
    assert [len(tree.find(name)) for tree in trees] == [0, 1, 0]
    (span,) = trees[1].find(name)
    assert clock.holds(span)
    assert span.attributes["torch.phase"] == "collective"
    assert span.span.kind.name == "INTERNAL"
    found = told(span)
    assert found.pop("bytes", None) == size
    assert found.pop("dtype", None) == (size and f"torch.float{32 * size // SIX}")
    assert found.pop("completed") is completed
    found.pop("async", None)  # before torch 2.8 it does not say
    assert found == {"group": "default_pg", "group.size": 1}


def save() -> None:
    torch.save(torch.ones(2), BytesIO())


def load() -> None:
    buffer = BytesIO()
    torch.save(torch.ones(2), buffer)
    buffer.seek(0)
    torch.load(buffer)


def evaluate() -> None:
    with torch.no_grad():
        evaluated = Net()
        evaluated(batch())
        distributed.broadcast(two(), 0)
        evaluated(batch())


@pytest.mark.usefixtures("no_pauses_of_the_machines")
@pytest.mark.parametrize(
    "before",
    [
        [],
        [save],
        [load],
        [save, load],
        [evaluate],
        [evaluate, save],
        [save, evaluate],
        [save, evaluate, save],
    ],
    ids=lambda calls: "_".join(call.__name__ for call in calls) or "nothing",
)
def test_between_two_steps_each_is_of_what_comes_next_whatever_came_before(
    before: list[Callable[[], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "SHORTEST", 0)

    def between() -> None:
        for call in before:
            call()
        distributed.all_reduce(two())

    with capture_spans(Config(causes=("collective", "checkpoint"))) as captured:
        train(between=between)
    steps = [tree for tree in captured.trees if tree.name == "train.step"]
    assert [len(tree.find("all_reduce")) for tree in steps] == [0, 0, 1]
    assert path_to(steps[2], "all_reduce") == ["train.step", "all_reduce"]
    evaluations = [tree for tree in captured.trees if tree.name == "evaluate"]
    assert len(evaluations) == before.count(evaluate)
    for tree in evaluations:
        assert path_to(tree, "broadcast") == ["evaluate", "broadcast"]


@pytest.mark.usefixtures("no_pauses_of_the_machines")
def test_between_a_step_that_is_left_out_and_one_that_is_not_each_is_of_that() -> None:
    with capture_spans(Config(schedule=Schedule(wait=1, active=1))) as captured:
        train(4, at=2, between=distributed.barrier)
    assert [tree.attributes["torch.step"] for tree in captured.trees] == [1, 3]
    assert [len(tree.find("barrier")) for tree in captured.trees] == [0, 1]


def test_between_two_steps_by_hand_one_is_of_a_checkpoint_or_of_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checkpoints, "SHORTEST", 0)
    with capture_spans() as captured:
        for _ in range(3):
            with otel_torch_modules.step():
                Net()(batch()).sum().backward()
            distributed.all_reduce(two())
            torch.save(Gathered(), BytesIO())
    steps, saved = captured.trees[::2], captured.trees[1::2]
    assert [tree.find("all_reduce") for tree in steps] == 3 * [[]]
    assert [tree.outline() for tree in saved] == 3 * ["checkpoint.save\n  barrier"]


def test_no_tensor_is_kept_while_what_was_noted_waits_for_its_step_to_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[ref[Tensor]] = []

    def watched() -> Tensor:
        tensor = torch.ones(2, 3)
        made.append(ref(tensor))
        return tensor

    def each() -> None:
        for call, *_ in CALLS:
            call()
            until = time.monotonic() + 60
            while any(tensor() is not None for tensor in made):  # one of gloo's threads lets go
                assert time.monotonic() < until
                time.sleep(0.001)

    monkeypatch.setitem(globals(), "two", watched)
    trees, _ = traced(before_step=each)
    found = [span for span in trees[1].walk() if span.attributes["torch.phase"] == "collective"]
    assert [span.name for span in found] == [name for _, name, *_ in CALLS]
    assert len(made) > len(CALLS)


class Gathered(Dataset[Tensor]):
    """Asks the others for what it gives, and saves what it gave, where it asks them once more."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Tensor:
        sample = batch()
        distributed.broadcast(sample, 0)
        return sample

    def __reduce__(self) -> tuple[Any, ...]:
        distributed.barrier()
        return (Gathered, ())


def test_what_is_launched_while_something_lasts_is_below_it_in_all_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checkpoints, "SHORTEST", 0)
    dataset = Gathered()
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    with capture_spans() as captured:
        for sample in DataLoader(dataset, batch_size=None):
            model(sample).sum().backward()
            torch.save(dataset, BytesIO())
            sgd.step()
    assert len(captured.trees) == len(dataset)
    for tree in captured.trees[1:]:  # the first is loaded before a step with modules has opened
        assert path_to(tree, "broadcast") == ["train.step", "dataloader.next", "broadcast"]
        assert path_to(tree, "barrier") == ["train.step", "checkpoint.save", "barrier"]


def test_two_at_once_stand_side_by_side_in_steps_that_were_read_and_in_repeated_ones() -> None:
    def both() -> None:
        works = [distributed.all_reduce(two(), async_op=True) for _ in range(2)]
        for work in works:
            work.wait()

    with capture_spans() as captured:
        torch.manual_seed(0)
        model = Net()
        sgd = torch.optim.SGD(model.parameters(), lr=0.01)
        for _ in range(5):
            loss = model(batch()).sum()
            both()
            loss.backward()
            sgd.step()
    paired = "all_reduce\nall_reduce\n"
    outlines = [tree.outline() + "\n" for tree in captured.trees]
    assert outlines == 5 * [step(FORWARD, paired, BACKWARD, optimizer())]
    asynchronous = [
        told(span).get("async", True) for tree in captured.trees for span in tree.find("all_reduce")
    ]
    assert asynchronous == 10 * [True]


def test_ddps_buckets_are_below_the_backward_and_below_no_module() -> None:
    def once(steps: int) -> list[float]:
        torch.manual_seed(0)
        model = DistributedDataParallel(Net(), bucket_cap_mb=0)
        sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(steps):
            model(batch()).sum().backward()
            sgd.step()
            sgd.zero_grad()
        return [value for tensor in model.parameters() for value in tensor.flatten().tolist()]

    with capture_spans() as captured:
        parameters = once(4)
    assert parameters == once(4)
    for tree in captured.trees:
        assert [span.name for span in tree.children if span.name in ("all_reduce", "backward")] == [
            "backward"
        ]
        (backward,) = tree.find("backward")
        launched = [span for span in backward.children if span.name == "all_reduce"]
        assert tree.find("all_reduce") == launched
        assert sum(told(span)["bytes"] for span in launched) == (4 * 4 + 4) * 4
        assert all(told(span)["completed"] for span in launched)


def graphs_of(steps: int) -> tuple[list[str], list[float]]:
    """Return the graphs that are compiled of a loop with functional collectives, and its losses."""
    graphs: list[str] = []

    def compiler(graph: GraphModule, _: object) -> Callable[..., Any]:
        graphs.append(graph.code)
        return graph.forward

    torch._dynamo.reset()
    torch.manual_seed(0)
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)

    @torch.compile(backend=compiler, fullgraph=True)
    def mean(tensor: Tensor) -> Tensor:
        return functional.all_reduce(tensor, "sum", distributed.group.WORLD) * 2

    losses = []
    for _ in range(steps):
        loss = model(batch()).sum()
        loss.backward()
        losses.append(mean(loss.detach()).item())
        sgd.step()
        sgd.zero_grad()
    return graphs, losses


def test_compiled_functional_collectives_are_as_without_and_are_seen() -> None:
    with capture_spans(Config(causes=("collective",))) as captured:
        found = graphs_of(3)
    assert found == graphs_of(3)
    assert len(found[0]) == 1
    assert [len(tree.find("all_reduce")) for tree in captured.trees] == [1, 1, 1]


def test_all_is_as_it_was_where_it_is_not_chosen_and_afterwards() -> None:
    before = dispatcher()
    with capture_spans(Config(causes=("gc",))):
        train()
        assert dispatcher() == before
    with capture_spans():
        train()
        assert dispatcher() != before
    assert dispatcher() == before


def test_without_a_process_group_nothing_is_put_before_torchs_kernels() -> None:
    distributed.destroy_process_group()
    before = dispatcher()
    with capture_spans():
        train()
        assert dispatcher() == before
        distributed.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
        train(before_step=distributed.barrier)
        assert dispatcher() != before
    assert dispatcher() == before


def test_each_that_passes_is_counted_for_the_budget_recorded_or_not() -> None:
    recorder = Recorder(Config())
    causes = Causes(("collective",), recorder)
    causes.modules_open()
    try:
        for record in (None, Record("step", 0, 0, 0)):
            recorder.step.turn_to(record)
            for _ in range(3):
                distributed.barrier()
            assert [causes.take_launched() for _ in range(2)] == [3, 0]
    finally:
        causes.uninstall()


NEITHER = [
    Config(phases=("eval",)),
    Config(detail_ranks="1"),
    Config(schedule=Schedule(wait=99, active=1)),
]


@pytest.mark.parametrize("config", NEITHER)
def test_steps_that_are_not_recorded_or_have_phases_only_have_none_and_pass_nothing_of_ours(
    config: Config,
) -> None:
    before, meanwhile = dispatcher(), []

    def wait() -> None:
        distributed.barrier()
        meanwhile.append(dispatcher())

    trees, parameters = traced(config, in_forward=wait)
    assert meanwhile == [before] * len(meanwhile) != []
    assert parameters == train()
    assert [len(tree.find("barrier")) for tree in trees] == [0] * len(trees)


def test_a_torch_in_which_there_is_no_way_in_is_told_once_and_does_no_harm(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("there is a kernel already")

    monkeypatch.setattr(torch.library.Library, "impl", refuse)
    before = dispatcher()
    with caplog.at_level(logging.INFO, "otel_torch_modules"):
        trees, parameters = traced(before_step=distributed.barrier)
    assert parameters == train()
    assert [tree.outline() + "\n" for tree in trees] == 3 * [step(FORWARD, BACKWARD, optimizer())]
    assert caplog.messages == ["Collectives are not recorded: there is a kernel already"]
    assert dispatcher() == before


def test_what_a_collective_raises_is_the_programs_and_costs_no_record() -> None:
    def wrong() -> None:
        with pytest.raises((RuntimeError, ValueError)):
            distributed.all_gather_into_tensor(torch.ones(3), two())

    trees, parameters = traced(before_step=wrong)
    assert parameters == train()
    assert [tree.outline() + "\n" for tree in trees] == 3 * [step(FORWARD, BACKWARD, optimizer())]


EXPOSED = "torch.step.exposed_communication"


def test_what_a_step_waited_is_said_where_each_is_waited_for_at_once() -> None:
    trees, _ = traced(in_forward=distributed.barrier, before_step=distributed.barrier)
    waits = [span.end - span.start for span in trees[1].find("barrier")]
    says = "async" in told(trees[1].find("barrier")[0])  # torch does, from 2.8 on
    assert [EXPOSED in tree.attributes for tree in trees] == [False, says, False]
    if says:
        assert trees[1].attributes[EXPOSED] == pytest.approx(sum(waits) / 1e9)


@pytest.mark.parametrize("place", ["in_forward", "before_step"])
@pytest.mark.parametrize(
    "call",
    [
        lambda: distributed.all_reduce(two(), async_op=True).wait(),  # type: ignore[union-attr]
        lambda: distributed.reduce_scatter_tensor(two(), two()),
    ],
)
def test_it_is_not_said_where_one_may_be_waited_for_elsewhere_or_nobody_knows_its_end(
    place: str, call: Callable[[], object]
) -> None:
    def both() -> None:
        distributed.barrier()
        call()

    trees, _ = traced(**{place: both})
    assert [EXPOSED in tree.attributes for tree in trees] == [False, False, False]


def test_of_what_a_backward_launched_it_is_what_comes_after_its_last_module() -> None:
    torch.manual_seed(0)
    model = DistributedDataParallel(Net())
    with capture_spans() as captured:
        for _ in range(5):
            model(batch()).sum().backward()
            model.zero_grad()
            torch.optim.SGD(model.parameters(), lr=0.1).step()
    for tree in captured.trees[2:]:  # those of a layout among them; buckets are made anew before
        (backward,) = tree.find("backward")
        module, *launched = backward.children
        waited = sum(max(span.end - max(span.start, module.end), 0) for span in launched)
        assert [span.name for span in launched] == ["all_reduce"]
        assert tree.attributes[EXPOSED] == pytest.approx(waited / 1e9)
