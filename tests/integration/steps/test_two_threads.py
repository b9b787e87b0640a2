"""Two threads that call modules at the same moment: one step is theirs."""

from __future__ import annotations

import threading

import torch

from otel_torch_modules import Config
from otel_torch_modules.testing import capture_spans
from tests.support.small_training import Net, batch
from tests.support.switching import switching_after

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
