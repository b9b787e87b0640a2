"""What is recorded outside a step belongs to its thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from otel_torch_modules._engine.worker import Worker
from otel_torch_modules._records import Record
from otel_torch_modules.testing import CapturedSpan, capture_spans
from tests.support.small_training import (
    BACKWARD,
    FORWARD,
    STEP,
    Net,
    batch,
    optimizer,
    step,
    train,
)
from tests.support.switching import switching_after

_LAYERS = 9
REQUEST = "\n".join(["forward Sequential", *(f"  forward {n}" for n in range(_LAYERS))])


@pytest.fixture(autouse=True)
def _switch_often() -> Iterator[None]:
    with switching_after(1e-6):
        yield


def served() -> nn.Module:
    return nn.Sequential(*(nn.Linear(4, 4) for _ in range(_LAYERS))).eval()


def infer(model: nn.Module) -> None:
    with torch.no_grad():
        model(batch())


def test_a_request_is_a_trace_whatever_other_threads_do() -> None:
    model = served()
    with capture_spans() as captured, ThreadPoolExecutor(4) as pool:
        list(pool.map(infer, 100 * [model]))
    assert [tree.outline() for tree in captured.trees] == 100 * [REQUEST]


def test_a_request_lies_below_its_own_span() -> None:
    model = served()
    with capture_spans() as captured, ThreadPoolExecutor(4) as pool:
        tracer = captured.provider.get_tracer("server")

        def answer(number: int) -> None:
            with tracer.start_as_current_span(f"request {number}"):
                infer(model)
                infer(model)

        list(pool.map(answer, range(25)))
    below = "\n".join("  " + line for line in REQUEST.splitlines())
    assert sorted(tree.outline() for tree in captured.trees) == sorted(
        f"request {number}\n{below}\n{below}" for number in range(25)
    )


def beside_training(
    evaluate_in_thread: nn.Module, *, steps: int = 25
) -> tuple[list[CapturedSpan], int]:
    """Train while another thread evaluates without a pause; return the trees and how many forwards it made."""
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    done = threading.Event()
    forwards = 0

    def evaluate() -> None:
        nonlocal forwards
        while not done.is_set():
            infer(evaluate_in_thread)
            forwards += 1

    thread = threading.Thread(target=evaluate)
    with capture_spans() as captured:
        train(model, sgd)
        thread.start()
        for _ in range(steps):
            train(model, sgd)
        done.set()
        thread.join()
    return captured.trees, forwards


def test_an_evaluation_in_its_own_thread_takes_nothing_from_training() -> None:
    trees, forwards = beside_training(served())
    steps = [tree.outline() + "\n" for tree in trees if tree.name == "train.step"]
    assert steps == 26 * [step(FORWARD, BACKWARD, optimizer())]
    passes = [tree for tree in trees if tree.name == "evaluate"]
    assert len(steps) + len(passes) == len(trees)
    assert sum(int(str(tree.attributes["torch.evaluate.forwards"])) for tree in passes) == forwards
    shown = [child.outline() for tree in passes for child in tree.children]
    whole = [line for line in shown if line != "forward Sequential"]
    assert whole == len(whole) * [REQUEST]
    assert len(whole) >= min(forwards, 1_000)


def test_gradients_asked_for_in_a_thread_of_its_own_are_its_own() -> None:
    """Saliency beside training: its backward is no step's."""
    model, other = Net(), Net().eval()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    done = threading.Event()

    def evaluate() -> None:
        while not done.is_set():
            inputs = batch().requires_grad_()
            torch.autograd.grad(other(inputs).sum(), inputs)

    thread = threading.Thread(target=evaluate)
    with capture_spans() as captured:
        train(model, sgd)
        thread.start()
        for _ in range(25):
            train(model, sgd)
        done.set()
        thread.join()
    steps = [tree for tree in captured.trees if tree.name == "train.step"]
    assert [tree.outline() + "\n" for tree in steps] == 26 * [step(FORWARD, BACKWARD, optimizer())]


def test_gradients_asked_for_between_two_steps_are_of_their_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While the thread that trains hands a step over and opens the next there is none."""
    model, other = Net(), Net().eval()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    put = Worker.put

    def ask() -> None:
        inputs = batch().requires_grad_()
        torch.autograd.grad(other(inputs).sum(), inputs)

    def put_and_ask(worker: Worker, record: Record) -> bool:
        taken = put(worker, record)
        if record.kind == "step":
            thread = threading.Thread(target=ask)
            thread.start()
            thread.join()
        return taken

    monkeypatch.setattr(Worker, "put", put_and_ask)
    with capture_spans() as captured:
        for _ in range(5):
            train(model, sgd)
    steps = [tree for tree in captured.trees if tree.name == "train.step"]
    assert [tree.outline() + "\n" for tree in steps] == 5 * [STEP]
    assert [tree.attributes["torch.step"] for tree in steps] == list(range(5))


class Branches(nn.Module):
    """Runs its parts in threads, as `DataParallel` does, and waits for them."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList([nn.Linear(4, 4).eval(), nn.Linear(4, 4).eval()])

    def forward(self, x: Tensor) -> Tensor:
        outputs: list[Tensor] = [x, x]

        def work(number: int) -> None:
            with torch.no_grad():
                outputs[number] = self.parts[number](x)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
            thread.join()
        return sum(outputs) + x


def test_threads_that_a_module_waits_for_are_the_steps() -> None:
    model = nn.Sequential(nn.Linear(4, 4), Branches())
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    with capture_spans() as captured:
        for _ in range(3):
            model(batch()).sum().backward()
            sgd.step()
    assert [tree.name for tree in captured.trees] == 3 * ["train.step"]
    for tree in captured.trees:
        assert len(tree.find("forward Linear") + tree.find("forward Sequential.1.parts.0")) >= 1


def test_a_replica_is_the_steps() -> None:
    model = Net()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    replica = Net().eval()
    replica._is_replica = True  # type: ignore[assignment]
    with capture_spans() as captured:
        for _ in range(2):
            output = model(batch())
            thread = threading.Thread(target=infer, args=(replica,))
            thread.start()
            thread.join()
            output.sum().backward()
            sgd.step()
    assert [tree.outline() + "\n" for tree in captured.trees] == 2 * [
        step(FORWARD, FORWARD, BACKWARD, optimizer())
    ]
