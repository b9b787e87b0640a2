"""Whether marks inside one graph change its numbers: the demo's GPT compiled as one, with marks and without.

    python -m benchmarks.compiled_numbers

For each precision, from the same start and on the same batches: how many of the losses of some steps, and of the
parameters after them, are the same bit for bit, and by how much the others differ at most, as a share of the largest.
That is put beside how much compiling itself changes: the same steps not compiled. Three to five minutes.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.machine import describe, use_one_thread
from otel_torch_modules import Config, TorchModuleInstrumentor
from otel_torch_modules.examples.train_gpt import CONTEXT, GPT, VOCABULARY

_WIDTH = 128
_BATCH = 4
_STEPS = 5

Prepare = Callable[[nn.Module], object]


def plain(model: nn.Module) -> None:
    """Compile nothing."""


def numbers(prepare: Prepare, dtype: torch.dtype, autocast: bool) -> list[Tensor]:
    """Return losses and parameters after some steps."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = GPT(_WIDTH).to(dtype)
    prepare(model)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(_STEPS):
        tokens = torch.randint(len(VOCABULARY), (_BATCH, CONTEXT))
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())
        loss.backward()
        sgd.step()
        sgd.zero_grad()
        losses.append(loss.detach())
    return [torch.stack(losses), *(one.detach().clone() for one in model.parameters())]


def compared(of: str, one: list[Tensor], other: list[Tensor]) -> str:
    """Say how alike they are."""
    first, second = (torch.cat([of.flatten().double() for of in all_]) for all_ in (one, other))
    same = (first == second).double().mean().item()
    most = ((first - second).abs().max() / first.abs().max()).item()
    return f"{of:24} the same {same:7.2%}   the others by at most {most:.1e}"


def main() -> None:
    """Print all figures."""
    use_one_thread()
    os.environ["OTEL_TRACES_EXPORTER"] = "none"
    print(describe(), flush=True)
    tracing = TorchModuleInstrumentor()
    precisions = {
        "float32": (torch.float32, False),
        "bfloat16 by autocast": (torch.float32, True),
        "bfloat16": (torch.bfloat16, False),
    }
    for name, (dtype, autocast) in precisions.items():
        compiled = numbers(nn.Module.compile, dtype, autocast)
        tracing.instrument(config=Config(compiled_marks=("*.h.*",)))
        marked = numbers(nn.Module.compile, dtype, autocast)
        tracing.uninstrument()
        print(name)
        print(compared("  with marks", compiled, marked), flush=True)
        print(compared("  not compiled", compiled, numbers(plain, dtype, autocast)), flush=True)


if __name__ == "__main__":
    main()
