"""What a real run sends is read at the cost of its columns: what is the same of a place is kept once."""

from __future__ import annotations

from pathlib import Path

from otel_torch_modules._reading.arrivals import Arrivals
from otel_torch_modules._reading.files import read_file
from otel_torch_modules._reading.progress import Unseen
from tests.support.training_program import ENABLED, TRAIN, run, said

STEPS = """
from torch.utils.checkpoint import checkpoint

class Blocks(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Net(), Net()])

    def forward(self, x):
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False)
        return x

model = Blocks()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
train(4)
"""


def test_only_steps_say_something_that_is_not_their_places(tmp_path: Path) -> None:
    said(run(tmp_path, TRAIN + STEPS, **ENABLED))
    (path,) = tmp_path.glob("*.jsonl")
    arrivals = Arrivals()
    read_file(str(path), arrivals, Unseen())
    names = {site.name for site in arrivals.sites}
    assert {"forward blocks.0", "recompute blocks.1", "backward Blocks"} <= names
    alone = {
        arrivals.sites[columns.sites[at]].name
        for columns in arrivals.traces.values()
        for at in columns.remarks
    }
    assert alone == {"train.step"}
