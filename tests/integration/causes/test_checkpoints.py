"""A checkpoint between two steps is a trace of its own and in no step's time; one inside a step is in its tree."""

from __future__ import annotations

import io
from collections.abc import Callable
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import otel_torch_modules
from otel_torch_modules import Config
from otel_torch_modules._recording.causes import checkpoints
from otel_torch_modules.testing import Captured, CapturedSpan, capture_spans
from tests.support.caused import Clock, path_to, train
from tests.support.small_training import BACKWARD, FORWARD, STEP, Net, batch, outline, step
from tests.support.small_training import optimizer as optimizer_step
from tests.support.small_training import train as train_step

dcp: Any = import_module("torch.distributed.checkpoint")

STATE = {"weights": torch.ones(1000, 100)}
BYTES = 400_000

Happen = Callable[[], object]


@pytest.fixture(autouse=True)
def however_short(no_pauses_of_the_machines: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no checkpoint be too short."""
    monkeypatch.setattr(checkpoints, "SHORTEST", 0)


def save(folder: Path) -> None:
    """Write a file."""
    torch.save(STATE, folder / "state.pt")


def load(folder: Path) -> None:
    """Write a file without anybody's knowing and read it."""
    (folder / "state.pt").write_bytes(SAVED)
    torch.load(folder / "state.pt")


def distributed_save(folder: Path) -> None:
    """Write a folder."""
    dcp.save(STATE, checkpoint_id=folder)


def _saved() -> bytes:
    buffer = io.BytesIO()
    torch.save(STATE, buffer)
    return buffer.getvalue()


SAVED = _saved()


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
@pytest.mark.parametrize(
    ("what", "name", "function", "has_size"),
    [
        (save, "checkpoint.save", "torch.serialization.save", True),
        (load, "checkpoint.load", "torch.serialization.load", True),
        (
            distributed_save,
            "checkpoint.save",
            "torch.distributed.checkpoint.state_dict_saver.save",
            False,
        ),
    ],
)
def test_between_two_steps_it_is_a_trace_by_itself(
    tmp_path: Path, what: Callable[[Path], None], name: str, function: str, has_size: bool
) -> None:
    clock = Clock()

    def happen() -> None:
        with clock.around():
            what(tmp_path)

    with capture_spans() as captured:
        parameters = train(between=happen)
    assert parameters == train()
    first, second, checkpoint, third = captured.trees
    assert [tree.name for tree in (first, second, third)] == 3 * ["train.step"]
    assert checkpoint.outline() == name
    expected: dict[str, object] = {"torch.phase": "checkpoint", "code.function.name": function}
    if has_size:
        size = (tmp_path / "state.pt").stat().st_size
        assert size > BYTES
        expected["file.size"] = size
    assert checkpoint.attributes == expected
    (link,) = checkpoint.span.links
    assert link.context == second.span.context
    assert checkpoint.span.parent is None
    apart_from_each_other(captured)
    assert clock.holds(checkpoint)


@pytest.mark.parametrize(
    ("place", "path"),
    [
        ("in_forward", ["train.step", "forward Net", "checkpoint.save"]),
        (
            "in_backward",
            ["train.step", "backward", "backward Net", "backward act", "checkpoint.save"],
        ),
        ("before_step", ["train.step", "checkpoint.save"]),
    ],
)
def test_inside_a_step_it_is_a_part_of_it(tmp_path: Path, place: str, path: list[str]) -> None:
    places: dict[str, Any] = {place: lambda: save(tmp_path)}
    with capture_spans() as captured:
        train(**places)
    assert [tree.name for tree in captured.trees] == 3 * ["train.step"]
    assert path_to(captured.trees[1], "checkpoint.save") == path


def loop(save_at: Callable[[int], None], loader: bool) -> None:
    """Train with or without a loader, evaluate after the second step, and save where it is told to."""
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    batches: Any = DataLoader(torch.ones(6, 4), batch_size=2) if loader else 3 * [batch()]  # type: ignore[arg-type]
    for number, inputs in enumerate(batches):
        model(inputs).sum().backward()
        sgd.step()
        if number == 1:
            with torch.no_grad():
                model(inputs)
        save_at(number)


@pytest.mark.parametrize("loader", [False, True])
def test_no_step_has_its_time_whatever_else_lies_there(tmp_path: Path, loader: bool) -> None:
    """Also after an evaluation, and several in a row."""

    def save_at(number: int) -> None:
        for _ in range(number + 1):
            save(tmp_path)

    with capture_spans() as captured:
        loop(save_at, loader)
    names = [tree.name for tree in captured.trees]
    saves = "checkpoint.save"
    assert names == [
        *("train.step", saves),
        *("train.step", "evaluate", saves, saves),
        *("train.step", saves, saves, saves),
    ]
    apart_from_each_other(captured)
    steps = [tree.span.context for tree in captured.trees if tree.name == "train.step"]
    linked = [tree.span.links[0].context for tree in captured.trees if tree.name == saves]
    assert [steps.index(context) for context in linked] == [0, 1, 1, 2, 2, 2]


def apart_from_each_other(captured: Captured) -> None:
    """Check that no two traces overlap."""
    for before, after in pairwise(captured.trees):
        assert before.end <= after.start, (before.name, after.name)


def test_in_a_step_by_hand(tmp_path: Path) -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    with capture_spans() as captured:
        with otel_torch_modules.step(7):
            train_step(model, sgd)
            save(tmp_path)
        save(tmp_path)
    inside = step(FORWARD, BACKWARD, optimizer_step(), "checkpoint.save\n")
    assert outline(captured) == inside + "checkpoint.save\n"
    linked, alone = captured.trees
    assert alone.span.links[0].context == linked.span.context


def test_before_the_first_step_it_is_linked_to_none(tmp_path: Path) -> None:
    with capture_spans() as captured:
        load(tmp_path)
        train()
    assert [tree.name for tree in captured.trees] == ["checkpoint.load", *3 * ["train.step"]]
    assert captured.trees[0].span.links == ()


def test_one_that_another_thread_writes_touches_no_step(tmp_path: Path) -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    with capture_spans() as captured:
        for number in range(3):
            loss = model(batch()).sum()
            if number == 1:
                thread = Thread(target=save, args=(tmp_path,))
                thread.start()
                thread.join()
            loss.backward()
            sgd.step()
            sgd.zero_grad()
    steps = [tree for tree in captured.trees if tree.name == "train.step"]
    (saved,) = (tree for tree in captured.trees if tree.name == "checkpoint.save")
    assert "".join(tree.outline() + "\n" for tree in steps) == 3 * STEP
    assert saved.span.links[0].context == steps[1].span.context


def test_below_a_span_of_the_programs(tmp_path: Path) -> None:
    with capture_spans() as captured:
        tracer = captured.provider.get_tracer("program")
        with tracer.start_as_current_span("epoch"):
            train()
            save(tmp_path)
    (epoch,) = captured.trees
    assert [child.name for child in epoch.children] == [*3 * ["train.step"], "checkpoint.save"]


class Files(Dataset[torch.Tensor]):
    """Batches that are kept in files, as checkpoints are."""

    def __init__(self, folder: Path) -> None:
        torch.save(torch.ones(4), folder / "row.pt")
        self._file = folder / "row.pt"

    def __len__(self) -> int:
        return 4

    def __getitem__(self, _: int) -> torch.Tensor:
        loaded: torch.Tensor = torch.load(self._file)
        return loaded


@pytest.mark.parametrize("workers", [0, 1])
def test_a_dataset_that_loads_files_makes_no_checkpoints(tmp_path: Path, workers: int) -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    context = "fork" if workers else None
    batches = DataLoader(Files(tmp_path), 2, num_workers=workers, multiprocessing_context=context)
    with capture_spans() as captured:
        for inputs in batches:
            train_step(model, sgd)
            del inputs
    assert outline(captured) == 2 * step("dataloader.next\n", FORWARD, BACKWARD, optimizer_step())


def test_one_inside_another_is_a_part_of_it(tmp_path: Path) -> None:
    class Saves:
        def __reduce__(self) -> tuple[Any, ...]:
            save(tmp_path)
            return (int, ())

    with capture_spans() as captured:
        torch.save(Saves(), tmp_path / "outer.pt")
    assert [tree.outline() for tree in captured.trees] == ["checkpoint.save"]


@pytest.mark.parametrize(
    ("file", "known"),
    [
        (io.BytesIO(), True),
        (type("Odd", (io.BytesIO,), {"tell": lambda _: 1 / 0})(), False),
    ],
    ids=["buffer", "odd buffer"],
)
def test_the_size_of_what_is_no_file_by_name(file: io.BytesIO, known: bool) -> None:
    with capture_spans() as captured:
        torch.save(STATE, file, _use_new_zipfile_serialization=False)
    size = len(file.getvalue()) if known else None
    assert sizes(captured.trees) == [size]


def sizes(trees: list[CapturedSpan]) -> list[object]:
    """Return what is said of the sizes."""
    return [tree.attributes.get("file.size") for tree in trees]


def test_what_raises_is_the_programs(tmp_path: Path) -> None:
    with capture_spans() as captured:
        with pytest.raises(FileNotFoundError):
            torch.load(tmp_path / "none.pt")
        with pytest.raises(RuntimeError):
            torch.save(STATE, tmp_path / "nowhere" / "state.pt")
        train()
    assert sizes(captured.trees) == 5 * [None]


def functions() -> tuple[object, ...]:
    return torch.save, torch.serialization.load, dcp.save, dcp.load, dcp.async_save


def test_none_is_wrapped_where_they_are_not_chosen() -> None:
    before = functions()
    with capture_spans(Config(causes=("gc",))):
        train()
        assert functions() == before
    with capture_spans():
        train()
        assert torch.save is torch.serialization.save
        assert torch.save is not before[0]
        assert dcp.save is not before[2]
    assert functions() == before
