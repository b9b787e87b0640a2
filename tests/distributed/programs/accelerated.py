"""Training as users of Accelerate write it."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from model import WIDTH, make
from torch.utils.data import DataLoader

accelerator = Accelerator(cpu=True)
model = make()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
batches = DataLoader(torch.ones(8, WIDTH), batch_size=2)  # two for each rank
model, optimizer, batches = accelerator.prepare(model, optimizer, batches)
for x in batches:
    accelerator.backward(model(x).square().mean())
    optimizer.step()
    optimizer.zero_grad()
accelerator.end_training()
