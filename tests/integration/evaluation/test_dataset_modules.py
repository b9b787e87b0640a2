"""Modules that a dataset calls, as torchvision's transforms are: below the wait for the batch they are for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from otel_torch_modules import Config
from otel_torch_modules.testing import Captured, capture_spans
from tests.support.small_training import (
    BACKWARD,
    FORWARD,
    Net,
    evaluation,
    optimizer,
    outline,
    step,
)
from tests.support.training_program import ENABLED, outlines, run, said

ROOT = Path(__file__).parents[3]


class Scale(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2


class Transforms(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = Scale()

    def forward(self, x: Tensor) -> Tensor:
        return self.scale(x)


class Samples(Dataset[Tensor]):
    transform = Transforms()

    def __init__(self, batches: int) -> None:
        self.count = 2 * batches

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Tensor:
        return self.transform(torch.ones(4))


def loader(batches: int) -> DataLoader[Tensor]:
    return DataLoader(Samples(batches), batch_size=2)


WAIT = """\
dataloader.next
  forward Transforms
    forward scale
  forward Transforms
    forward scale
"""
TRAINED = step(WAIT, FORWARD, BACKWARD, optimizer())


def train_and_test(epochs: int, config: Config | None = None) -> Captured:
    """Run the shape of PyTorch's MNIST example."""
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    train_loader, test_loader = loader(4), loader(3)
    with capture_spans(config) as captured:
        for _ in range(epochs):
            model.train()
            for inputs in train_loader:
                sgd.zero_grad()
                model(inputs).sum().backward()
                sgd.step()
            model.eval()
            with torch.no_grad():
                for inputs in test_loader:
                    model(inputs)
    return captured


def test_they_are_children_of_the_wait() -> None:
    captured = train_and_test(2)
    assert outline(captured) == 2 * (4 * TRAINED + evaluation(3 * (WAIT + FORWARD)))


def test_who_sums_by_phase_can_tell_what_is_no_part_of_a_step_or_counts_as_data() -> None:
    captured = train_and_test(2)
    parents = {
        (tree.name, child.name, span.name, span.attributes.get("torch.phase.parent"))
        for tree in captured.trees
        for child in tree.children
        for span in (child, *child.children)
        if child.name in ("dataloader.next", "forward Net")
    }
    in_step, in_pass = ("train.step", "dataloader.next"), ("evaluate", "dataloader.next")
    assert {found for found in parents if found[0] == "train.step"} == {
        (*in_step, "dataloader.next", None),
        (*in_step, "forward Transforms", "data"),
        ("train.step", "forward Net", "forward Net", None),
        ("train.step", "forward Net", "forward fc", None),
        ("train.step", "forward Net", "forward act", None),
    }
    assert {found for found in parents if found[0] == "evaluate"} == {
        (*in_pass, "dataloader.next", "evaluate"),
        (*in_pass, "forward Transforms", "data"),
        ("evaluate", "forward Net", "forward Net", "evaluate"),
        ("evaluate", "forward Net", "forward fc", None),
        ("evaluate", "forward Net", "forward act", None),
    }


def test_forty_steps_and_two_test_passes_are_forty_two_traces() -> None:
    captured = train_and_test(10)
    names = [tree.name for tree in captured.trees]
    assert names == 10 * [*(4 * ["train.step"]), "evaluate"]


@pytest.mark.parametrize(
    ("config", "wait"),
    [
        (Config(max_depth=1), "dataloader.next\n  forward Transforms\n  forward Transforms\n"),
        (Config(exclude=("Scale",)), "dataloader.next\n  forward Transforms\n  forward Transforms\n"),
        (Config(exclude=("*Transforms",)), "dataloader.next\n  forward Transforms.scale\n"
                                           "  forward Transforms.scale\n"),
        (Config(detail_ranks="7"), "dataloader.next\n"),
    ],
    ids=["depth", "exclude", "exclude the root", "phases only"],
)  # fmt: skip
def test_limits_hold(config: Config, wait: str) -> None:
    captured = train_and_test(1, config)
    assert [
        child.outline() + "\n" for tree in captured.trees for child in tree.find("dataloader.next")
    ] == 7 * [wait]


def test_a_fetch_inside_an_open_step() -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans() as captured:
        batches = iter(loader(4))
        for _ in range(2):
            for _ in range(2):
                model(next(batches)).sum().backward()
            sgd.step()
    assert outline(captured) == 2 * step(2 * (WAIT + FORWARD + BACKWARD), optimizer())


def test_a_transform_that_raises_costs_nothing() -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)

    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("a bad sample")

    samples = Samples(1)
    good, samples.transform = samples.transform, Broken()
    with capture_spans() as captured:
        with pytest.raises(ValueError, match="a bad sample"):
            next(iter(DataLoader(samples)))
        samples.transform = good
        for inputs in DataLoader(samples, batch_size=2):
            model(inputs).sum().backward()
            sgd.step()
    assert outline(captured) == TRAINED


_WORKERS = """
import torch
from torch.utils.data import DataLoader
from tests.integration.evaluation.test_dataset_modules import Samples
from tests.support.small_training import Net

model = Net()
sgd = torch.optim.SGD(model.parameters(), lr=0.01)
for inputs in DataLoader(Samples(2), batch_size=2, num_workers=1):
    model(inputs).sum().backward()
    sgd.step()
"""


@pytest.mark.parametrize("asked", [None, "false", "true"])
def test_a_worker_process_records_nothing_unless_it_is_asked_to(
    asked: str | None, tmp_path: Path
) -> None:
    own = {} if asked is None else {"OTEL_TORCH_MODULES_DATA_WORKERS": asked}
    done = run(tmp_path, _WORKERS, PYTHONPATH=str(ROOT), **ENABLED, **own)
    said(done)
    of_workers = "forward Transforms\n  forward scale\n"
    plain = step("dataloader.next\n", FORWARD, BACKWARD, optimizer())
    expected = [plain] * 2 + ([of_workers] * 4 if asked == "true" else [])
    found = ["".join(f"{line}\n" for line in tree) for tree in outlines(tmp_path)]
    assert sorted(found) == sorted(expected)
