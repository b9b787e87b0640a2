"""`max_overhead`: the first steps in full, then phases where modules are too dear, and the job is none the wiser."""

from __future__ import annotations

import threading

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from otel_torch_modules import Config
from otel_torch_modules import step as manual_step
from otel_torch_modules.testing import Captured, capture_spans
from tests.support.small_training import (
    FORWARD,
    STEP,
    Net,
    batch,
    evaluation,
    optimizer,
    outline,
    step,
    train,
)

TINY = Config(max_overhead=1e-9)
PHASES = step("forward Net\n", "backward\n  backward Net\n", optimizer())


def strides(captured: Captured) -> list[object]:
    return [tree.attributes.get("torch.step.stride") for tree in captured.trees]


def test_the_first_steps_are_in_full_and_then_only_phases() -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans(TINY) as captured:
        for _ in range(40):
            train(model, sgd)
    assert outline(captured) == 4 * STEP + 36 * PHASES
    assert strides(captured) == 4 * [1] + 36 * [1_024]


def test_steps_that_are_set_by_hand_are_in_full_where_the_stride_divides_them() -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans(TINY) as captured:
        for index in (7, 8, 9, 10, 2_047, 2_048, 2_049):
            with manual_step(index):
                train(model, sgd)
    assert outline(captured) == 4 * STEP + PHASES + STEP + PHASES
    assert [tree.attributes["torch.step"] for tree in captured.trees][-2:] == [2_048, 2_049]


def test_evaluations_have_their_own_first_ones_and_their_own_budget() -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans(TINY) as captured:
        for _ in range(6):
            train(model, sgd)
        with torch.no_grad():
            for _ in range(40):
                model(batch())
    passed = evaluation(4 * FORWARD, 36 * "forward Net\n")
    assert outline(captured) == 4 * STEP + 2 * PHASES + passed
    assert captured.trees[-1].attributes["torch.evaluate.forwards"] == 40
    assert strides(captured)[6:] == [1_024]


def test_ranks_of_phases_have_no_stride() -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans(Config(max_overhead=1.0, detail_ranks="1")) as captured:
        for _ in range(6):
            train(model, sgd)
    assert outline(captured) == 6 * PHASES
    assert strides(captured) == 6 * [None]


def test_without_a_budget_all_is_in_full_and_nothing_is_measured() -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    started: list[str] = []
    start = threading.Thread.start

    def noting(thread: threading.Thread) -> None:
        started.append(thread.name)
        start(thread)

    threading.Thread.start = noting  # type: ignore[method-assign]
    try:
        for config in (Config(), TINY):
            started.append("--")
            with capture_spans(config) as captured:
                for _ in range(6):
                    train(model, sgd)
            if config.max_overhead is None:
                assert outline(captured) == 6 * STEP
                assert strides(captured) == 6 * [None]
    finally:
        threading.Thread.start = start  # type: ignore[method-assign]
    without, _, with_budget = " ".join(started).replace("--", "|").strip("| ").partition(" | ")
    assert "calibration" not in without
    assert with_budget.count("calibration") == 1


def test_training_is_bit_for_bit_the_same() -> None:
    def run() -> tuple[list[Tensor], Tensor]:
        torch.manual_seed(3)
        model = nn.Sequential(Net(), nn.Dropout(0.5), Net())
        adam = torch.optim.Adam(model.parameters(), lr=0.01)
        found = []
        for inputs in DataLoader(torch.randn(24, 4), batch_size=2, shuffle=True):  # type: ignore[arg-type]
            loss = model(inputs).square().sum()
            loss.backward()
            adam.step()
            adam.zero_grad()
            found.append(loss.detach())
            with torch.no_grad():
                found.append(model.eval()(inputs))
            model.train()
        return found + [p.detach() for p in model.parameters()], torch.get_rng_state()

    expected, expected_rng = run()
    with capture_spans(TINY):
        found, rng = run()
    assert len(found) == 24 + 8 - 4
    assert all(map(torch.equal, found, expected))
    assert torch.equal(rng, expected_rng)
