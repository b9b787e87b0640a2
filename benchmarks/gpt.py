"""The model of the demo, as `examples/train_gpt.py` trains it, with batches at hand."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import torch
from torch.nn import functional


def demo() -> ModuleType:
    """Return the example as a module."""
    path = Path(__file__).parents[1] / "examples" / "train_gpt.py"
    spec = spec_from_file_location("train_gpt", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def demo_step(width: int, batch_size: int) -> Callable[[], None]:
    """Return a function that runs one step of the demo: its micro-batches and its optimizer."""
    example = demo()
    model = example.GPT(width)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    tokens = torch.randint(len(example.VOCABULARY), (batch_size, example.CONTEXT + 1))

    def run() -> None:
        for _ in range(example.ACCUMULATION):
            logits = model(tokens[:, :-1])
            loss = functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
            (loss / example.ACCUMULATION).backward()
        optimizer.step()
        optimizer.zero_grad()

    return run
