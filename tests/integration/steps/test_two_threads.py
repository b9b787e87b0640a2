"""Two threads that call modules at the same moment: one step is theirs, and it is sent once."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

import pytest
import torch

from otel_torch_modules import Config
from otel_torch_modules._recording.loop import current_step
from otel_torch_modules.testing import capture_spans
from tests.support.small_training import Net, batch, train
from tests.support.switching import switching_after

if TYPE_CHECKING:
    from _typeshed import TraceFunction

STEPS = 300


def test_threads_that_open_a_step_at_once_open_one() -> None:
    models = Net(), Net()
    sgd = torch.optim.SGD([p for model in models for p in model.parameters()], lr=0.01)
    together = threading.Barrier(2)

    def work(model: Net) -> None:
        for _ in range(STEPS):
            together.wait()
            model(batch()).sum().backward()
            together.wait()
            if model is models[0]:
                sgd.step()

    with switching_after(1e-6), capture_spans(Config(max_depth=1)) as captured:
        threads = [threading.Thread(target=work, args=(model,)) for model in models]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    trees = [tree for tree in captured.trees if tree.name == "train.step"]
    assert [tree.attributes["torch.step"] for tree in trees] == list(range(STEPS))
    for name in ("forward Net", "forward Net_1"):
        assert [len(tree.find(name)) for tree in trees] == STEPS * [1]
    assert len(captured.trees) == STEPS


def in_another_thread(work: Callable[[], None]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def in_a_signal_handler(work: Callable[[], None]) -> None:
    work()


class Training:
    """One that others come between, at one of the lines where its steps end."""

    def __init__(self) -> None:
        model = Net()
        self._model, self._sgd = model, torch.optim.SGD(model.parameters(), lr=0.1)
        self._left = 0

    def step(self) -> None:
        train(self._model, self._sgd)

    def step_with(self, strike: Callable[[], None], line: int) -> bool:
        """Make a step in which `strike` is called at this line, counted from 0; return whether it comes so far."""
        self._left = line

        def trace(frame: FrameType, event: str, _: object) -> TraceFunction | None:
            if frame.f_code.co_filename != current_step.__file__:
                return None
            if event == "line":
                self._left -= 1
                if self._left == -1:
                    strike()
            return trace

        self._model(batch()).sum().backward()
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            self._sgd.step()
        finally:
            sys.settrace(before)
        return self._left < 0


@pytest.mark.parametrize("elsewhere", [in_another_thread, in_a_signal_handler])
def test_a_step_is_sent_once_whoever_comes_to_its_end(
    elsewhere: Callable[[Callable[[], None]], None],
) -> None:
    training, other = Training(), Training()
    line = 0
    with capture_spans(Config(max_depth=1)) as captured:
        training.step()
        while training.step_with(lambda: elsewhere(other.step), line):
            line += 1
    assert line > 5
    sent = [span.context.span_id for span in captured.spans if span.context]
    assert len(sent) == len(set(sent))
    # Each of the two makes one at most.
    steps = [span for span in captured.spans if span.name == "train.step"]
    assert line < len(steps) <= 2 * line + 2
