"""Accelerate's own loop with accumulated gradients and an evaluation after each epoch."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from outcome import tell
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
data = TensorDataset(torch.randn(32, 8), torch.randint(0, 4, (32,)))
model: nn.Module = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
optimizer = torch.optim.AdamW(model.parameters())
model, optimizer, train, test = accelerator.prepare(
    model, optimizer, DataLoader(data, batch_size=4, shuffle=True), DataLoader(data, batch_size=16)
)
for _ in range(2):
    model.train()
    for inputs, labels in train:
        with accelerator.accumulate(model):
            loss = nn.functional.cross_entropy(model(inputs), labels)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
    model.eval()
    with torch.no_grad():
        for inputs, _labels in test:
            model(inputs)
tell(accelerator.unwrap_model(model))
