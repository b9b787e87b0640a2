"""Chains of graphs without end: torch frees those of nodes that Python has seen by recursion.

In processes of their own: what could happen is a segmentation fault, from some 25 000 nodes on with a stack of 8 MiB.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

_DEEP_MODEL = """
import torch
from torch import Tensor, nn
from otel_torch_modules.testing import capture_spans
from otel_torch_modules import Config

class AddOne(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1

model = nn.Sequential(*[AddOne()] * 40_000)
with capture_spans(Config(max_spans_per_step=10_000_000)) as captured:
    for _ in range(2):
        model(torch.zeros(1, requires_grad=True)).sum().backward()
(step,) = captured.trees
print(step.attributes.get("torch.step.truncated"))
print(sum(span.name.startswith("forward ") for span in captured.spans) > 40_000)
print(sum(span.name.startswith("backward ") for span in captured.spans) > 10_000)
"""


def test_a_chain_of_forty_thousand_modules_trains() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _DEEP_MODEL], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "True\nTrue\nTrue\n"), done.stderr


_PROGRAM = """
import sys, threading
import torch
from torch import Tensor, nn
import otel_torch_modules
from otel_torch_modules import Config
from otel_torch_modules._recording.live_marks import live_marks
from opentelemetry.sdk.trace import TracerProvider

torch.set_num_threads(1)
stack = int(sys.argv[1])

class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, h):
        return h * self.weight

class Keeps(Scale):
    "Its state is in nobody's arguments."
    state = torch.ones(1)

    def forward(self, x):
        self.state = self.state * self.weight + x
        return self.state

class Views(Scale):
    def forward(self, h):
        return (h * self.weight).view(1, 1).view(1)

def streaming(calls, module=Scale, training=True):
    model = module().train(training)
    h = torch.ones(1)
    for _ in range(calls):
        h = model(h if module is not Keeps else torch.ones(1))
    return model, h

def rollout(calls):
    "One backward through all of it."
    model, h = streaming(calls)
    sgd = torch.optim.SGD(model.parameters(), lr=1e-3)
    h.sum().backward()
    sgd.step()
    return model, h

def gated(calls):
    model, h, x = nn.GRUCell(2, 2).eval(), torch.zeros(1, 2), torch.zeros(1, 2)
    for _ in range(calls):
        h = model(x, h)
    return model, h

def truncated(calls):
    "Backward through the last call alone, time and again, and nothing is detached."
    model = Scale()
    sgd = torch.optim.SGD(model.parameters(), lr=1e-9)
    h = torch.ones(1)
    for _ in range(calls):
        before = h
        h = model(before)
        if before.requires_grad:
            (gradient,) = torch.autograd.grad(h.sum(), before, retain_graph=True)
        model.weight.grad = torch.zeros(1)
        sgd.step()
        model.weight = nn.Parameter(model.weight.detach())
    return model, h

SITUATIONS = {
    "streaming": streaming,
    "streaming in eval mode": lambda calls: streaming(calls, training=False),
    "views": lambda calls: streaming(calls, Views),
    "a state that the module keeps": lambda calls: streaming(calls, Keeps),
    "rollout": rollout,
    "gated": gated,
    "truncated": truncated,
}

def run(situation, calls):
    if stack:
        threading.stack_size(stack)
        thread = threading.Thread(target=lambda: SITUATIONS[situation](calls) and None)
        thread.start()
        threading.stack_size(0)
        thread.join()
    else:
        kept = SITUATIONS[situation](calls)
        del kept

provider = TracerProvider(shutdown_on_exit=False)
with otel_torch_modules.trace(config=Config(), tracer_provider=provider):
    for argument in sys.argv[2:]:
        situation, calls = argument.split("=")
        run(situation, int(calls))
        assert live_marks.room() > 1000, live_marks.room()
        print(situation, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stack", "situations"),
    [
        (0, {"streaming": 50_000, "rollout": 50_000}),
        (
            1 << 20,
            {
                "streaming": 7_000,
                "streaming in eval mode": 7_000,
                "views": 7_000,
                "a state that the module keeps": 7_000,
                "rollout": 7_000,
                "gated": 7_000,
                "truncated": 7_000,
            },
        ),
    ],
    ids=["main thread", "thread of 1 MiB"],
)
def test_a_state_carried_over_root_calls_is_freed(stack: int, situations: dict[str, int]) -> None:
    arguments = [f"{situation}={calls}" for situation, calls in situations.items()]
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(stack), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.splitlines()) == (0, list(situations)), done.stderr
