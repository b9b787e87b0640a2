"""The model of the demo, as its script trains it, with batches at hand."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

from otel_torch_modules.examples import train_gpt


def demo_step(width: int, batch_size: int) -> Callable[[], None]:
    """Return a function that runs one step of the demo: its micro-batches and its optimizer."""
    model = train_gpt.GPT(width)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    tokens = torch.randint(len(train_gpt.VOCABULARY), (batch_size, train_gpt.CONTEXT + 1))

    def run() -> None:
        for _ in range(train_gpt.ACCUMULATION):
            logits = model(tokens[:, :-1])
            loss = functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
            (loss / train_gpt.ACCUMULATION).backward()
        optimizer.step()
        optimizer.zero_grad()

    return run
