"""Other tools that wrap ``nn.Module.__call__``, classes that override it, and modules called in threads."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from copy import copy, deepcopy
from functools import partial
from inspect import getsource, signature
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from otel_torch_modules.testing import capture_spans
from tests.support.small_training import STEP, Net, batch, outline, train
from tests.support.training_program import ENABLED, TRAIN, outlines, run
from tests.support.training_program import STEP as STEP_OF_PROGRAM

# All of torch's that is wrapped.
WRAPPED = [
    "torch.nn.modules.module.Module.__call__",
    "torch.nn.modules.module.Module.zero_grad",
    "torch.utils.data.dataloader._BaseDataLoaderIter.__next__",
    "torch.optim.optimizer.Optimizer.zero_grad",
    "torch.amp.grad_scaler.GradScaler.step",
]

Call = Callable[..., Any]


def counting(original: Call, calls: list[str]) -> Call:
    """Return a wrapper as another tool would make it."""

    def __call__(module: nn.Module, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        calls.append(type(module).__name__)
        return original(module, *args, **kwargs)

    return __call__


def step_with(model: nn.Module) -> None:
    train(model, torch.optim.SGD(model.parameters(), lr=0.01))


def pickled(function: Call) -> list[object]:
    return [pickle.dumps(function), pickle.dumps(partial(function, None))]


def seen(function: Call) -> list[object]:
    """Return all that a program can ask of a function of torch's and find changed."""
    names = [
        getattr(function, name) for name in ("__name__", "__qualname__", "__module__", "__doc__")
    ]
    copies = copy(function) is function is deepcopy(function)
    same = pickle.loads(pickle.dumps(function)) is function
    return [*names, *pickled(function), signature(function), getsource(function), copies, same]


@pytest.mark.parametrize("name", WRAPPED)
def test_what_is_wrapped_is_pickled_copied_and_described_as_without_us(name: str) -> None:
    untraced = resolve_name(name)
    expected = seen(untraced)
    with capture_spans():
        assert resolve_name(name) is not untraced
        assert seen(resolve_name(name)) == expected
        found = {key for key, value in vars(nn.Module).items() if value is nn.Module.__call__}
        assert found == {"__call__", "_wrapped_call_impl"}
    assert resolve_name(name) is untraced


def test_the_profiler_sees_the_modules_that_it_sees_without_us(tmp_path: Path) -> None:
    """It takes the module out of the frame of what it finds as ``nn.Module.__call__``, by the name that torch gave."""
    source = """
from torch.profiler import profile

for _ in range(2):
    with profile(with_stack=True) as profiled:
        train(1)
    names = [event.name for event in profiled.events() if event.name.startswith("nn.Module: ")]
    print(list(dict.fromkeys(names)))  # a root's call is two of our frames
"""
    ended = run(tmp_path, TRAIN + source, **ENABLED)
    assert ended.returncode == 0
    assert ended.stdout == 2 * "['nn.Module: Net_0', 'nn.Module: Linear_0', 'nn.Module: ReLU_0']\n"
    assert outlines(tmp_path) == 2 * [STEP_OF_PROGRAM]


def test_nothing_is_imported_while_the_first_step_is_profiled(tmp_path: Path) -> None:
    """The profiler reads names of what is gone by then, wherever another thread has put something else."""
    source = """
import sys
from torch.profiler import profile

ran = []
sys.addaudithook(lambda event, arguments: ran.append(arguments) if event == "exec" else None)
with profile(with_stack=True):
    train(1)
    imported = list(ran)
print(imported)
"""
    ended = run(tmp_path, TRAIN + source, **ENABLED)
    assert ended.stdout == "[]\n"
    assert outlines(tmp_path) == [STEP_OF_PROGRAM]


NAMES = ["Net", "Linear", "ReLU"]


def test_a_wrapper_that_was_there_before_stays() -> None:
    plain = nn.Module.__call__
    calls: list[str] = []
    wrapper = counting(plain, calls)
    nn.Module.__call__ = wrapper  # type: ignore[method-assign]
    try:
        with capture_spans() as captured:
            step_with(Net())
        assert nn.Module.__call__ is wrapper
        assert calls == NAMES
        step_with(Net())
        assert calls == NAMES * 2
    finally:
        nn.Module.__call__ = plain  # type: ignore[method-assign]
    assert outline(captured) == STEP


def test_a_wrapper_that_came_after_and_went_before() -> None:
    calls: list[str] = []
    with capture_spans() as captured:
        ours = nn.Module.__call__
        nn.Module.__call__ = counting(ours, calls)  # type: ignore[method-assign]
        step_with(Net())
        nn.Module.__call__ = ours  # type: ignore[method-assign]
        step_with(Net())
    assert calls == NAMES
    assert outline(captured) == 2 * STEP


def test_a_wrapper_that_came_after_and_stays_is_left_on() -> None:
    plain = nn.Module.__call__
    calls: list[str] = []
    try:
        with capture_spans() as captured:
            theirs = counting(nn.Module.__call__, calls)
            nn.Module.__call__ = theirs  # type: ignore[method-assign]
            step_with(Net())
        assert nn.Module.__call__ is theirs
        step_with(Net())
        assert outline(captured) == STEP
        assert calls == NAMES * 2
        with capture_spans() as again:  # around the one that stays: still once a call
            step_with(Net())
        assert nn.Module.__call__ is theirs
    finally:
        nn.Module.__call__ = plain  # type: ignore[method-assign]
    assert outline(again) == STEP


def test_a_subclass_that_overrides_the_call() -> None:
    class Own(Net):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return super().__call__(*args, **kwargs) * 2

    class Silent(Net):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return self.forward(*args, **kwargs)

    with capture_spans() as captured:
        step_with(Own())
        with torch.no_grad():
            Silent().eval()(batch())
    assert captured.trees[0].outline() + "\n" == STEP.replace("Net", "Own")
    # A class whose calls never come to `nn.Module` shows by its children.
    assert [tree.outline() for tree in captured.trees[1:]] == [
        "evaluate\n  forward Silent.fc\n  forward Silent.act"
    ]


def test_a_call_on_an_instance_or_by_call_impl_is_not_ours_to_see() -> None:
    model = Net()
    with capture_spans() as captured, torch.no_grad():
        expected = model._call_impl(batch())
        assert torch.equal(model(batch()), expected)
    assert captured.trees[-1].outline() == "forward Net\n  forward fc\n  forward act"


def test_module_calls_in_threads_at_once() -> None:
    class Replicas(nn.Module):
        """Runs its children in threads, as DataParallel does."""

        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleList([Net() for _ in range(4)])

        def forward(self, x: Tensor) -> Tensor:
            outputs: dict[int, Tensor] = {}
            barrier = threading.Barrier(len(self.parts))

            def run(number: int) -> None:
                barrier.wait()
                for _ in range(20):
                    outputs[number] = self.parts[number](x)

            threads = [threading.Thread(target=run, args=(n,)) for n in range(len(self.parts))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return torch.stack([outputs[number] for number in sorted(outputs)]).sum()

    torch.manual_seed(0)
    model = Replicas()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01)
    expected = model(batch())
    with capture_spans() as captured:
        output = model(batch())
        output.backward()
        sgd.step()
        step_with(Net())
    assert torch.equal(output, expected)
    first, last = captured.trees
    assert last.outline() + "\n" == STEP
    names = [span.name for span in first.walk()]
    for part in range(4):
        assert names.count(f"forward Replicas.parts.{part}") == 20
    assert names.count("backward") == 1


def test_training_in_two_threads_at_once() -> None:
    def loop(results: list[float], barrier: threading.Barrier) -> None:
        generator = torch.Generator().manual_seed(0)
        model = Net()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        sgd = torch.optim.SGD(model.parameters(), lr=0.01)
        barrier.wait()
        for _ in range(30):
            loss = model(batch()).sum()
            loss.backward()
            sgd.step()
            sgd.zero_grad()
            results.append(loss.item())

    def run() -> list[list[float]]:
        results: list[list[float]] = [[], []]
        barrier = threading.Barrier(2)
        threads = [threading.Thread(target=loop, args=(result, barrier)) for result in results]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results

    expected = run()
    with capture_spans() as captured:
        assert run() == expected
        step_with(Net())
    outline_of_last = captured.trees[-1].outline() + "\n"
    assert outline_of_last == STEP
