"""Very deep models: torch frees a chain of autograd nodes that Python has seen by recursion."""

from __future__ import annotations

import subprocess
import sys

# In a process of its own: what could happen is a segmentation fault.
_PROGRAM = """
import torch
from torch import Tensor, nn
from otel_torch_modules.testing import capture_spans
from otel_torch_modules import Config

class AddOne(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1

model = nn.Sequential(*[AddOne()] * 80_000)
with capture_spans(Config(max_spans_per_step=10_000_000)) as captured:
    for _ in range(2):
        model(torch.zeros(1, requires_grad=True)).sum().backward()
(step,) = captured.trees
print(step.attributes.get("torch.step.truncated"))
print(sum(span.name.startswith("forward ") for span in captured.spans) > 80_000)
print(sum(span.name.startswith("backward ") for span in captured.spans) > 10_000)
"""


def test_a_chain_of_eighty_thousand_modules_trains() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "True\nTrue\nTrue\n"), done.stderr
