"""nanoGPT's loop: batches from an array, micro-batches, a scaler, clipping, estimates of the loss in between."""

from __future__ import annotations

import torch
from gpt2 import gpt2
from outcome import tell
from torch import Tensor

model = gpt2()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
scaler = torch.amp.GradScaler("cpu", enabled=False)
data = torch.randint(0, 64, (1000,))


def get_batch() -> Tensor:
    """Return rows of the data."""
    starts = torch.randint(len(data) - 16, (2,))
    return torch.stack([data[start : start + 16] for start in starts.tolist()])


@torch.no_grad()
def estimate_loss() -> None:
    """Evaluate as the script does, in between."""
    model.eval()
    for _ in range(3):
        batch = get_batch()
        model(input_ids=batch, labels=batch)
    model.train()


batch = get_batch()
for iteration in range(6):
    if iteration % 3 == 0:
        estimate_loss()
    for _ in range(4):
        loss = model(input_ids=batch, labels=batch).loss / 4
        batch = get_batch()
        scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
tell(model)
