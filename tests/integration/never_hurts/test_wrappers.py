"""Other tools that wrap ``nn.Module.__call__``, classes that override it, and modules called in threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from otel_torch_modules.testing import capture_spans
from tests.integration.steps.programs import STEP, Net, batch, outline, train

Call = Callable[..., Any]


def counting(original: Call, calls: list[str]) -> Call:
    """Return a wrapper as another tool would make it."""

    def __call__(module: nn.Module, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        calls.append(type(module).__name__)
        return original(module, *args, **kwargs)

    return __call__


def step_with(model: nn.Module) -> None:
    train(model, torch.optim.SGD(model.parameters(), lr=0.01))


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
    assert [tree.outline() for tree in captured.trees[1:]] == ["forward Linear", "forward ReLU"]


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
