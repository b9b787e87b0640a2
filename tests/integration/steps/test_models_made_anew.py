"""A model that takes the name of one that is gone has its own attributes, as a file of traces has them."""

from __future__ import annotations

from pathlib import Path

from tests.support.training_program import ENABLED, STEP, run, said, traces

SIZES = (4, 8, 4)

# The second takes the first one's name, and has more parameters; the third is told as the first one was.
PROGRAM = """
import copy
import torch
from torch import nn

torch.set_num_threads(1)

class Net(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.fc = nn.Linear(size, size)
        self.act = nn.ReLU()

    def forward(self, x):
        return self.act(self.fc(x))

originals = [Net(4), Net(8), Net(4).eval()]
for original in originals:
    size = original.fc.in_features
    for _ in range(2):
        model = copy.deepcopy(original)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model(torch.ones(2, size)).sum().backward()
        optimizer.step()
        del model, optimizer
"""


def test_each_copy_is_told_as_it_is(tmp_path: Path) -> None:
    said(run(tmp_path, PROGRAM, **ENABLED))
    steps = traces(tmp_path)
    assert [step.outline() for step in steps] == [STEP] * 6
    for place, step in enumerate(steps):
        size = SIZES[place // 2]
        layers = [span for span in step.walk() if span.name.endswith(" fc")]
        assert [span.attributes["torch.phase"] for span in layers] == ["forward", "backward"]
        for span in layers:
            assert span.attributes["torch.module.fqn"] == "Net.fc"
            assert span.attributes["torch.module.parameters"] == size * size + size
            assert span.attributes["torch.module.training"] == (place < 4)
    assert len({span.span_id for step in steps for span in step.walk()}) == 6 * len(STEP)
