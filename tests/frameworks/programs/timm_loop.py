"""A model of timm with its optimizer, scheduler and loader, as its train.py puts them together."""

from __future__ import annotations

import timm
import torch
from outcome import tell
from timm.data import create_loader
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from torch import nn
from torchvision.datasets import FakeData

torch.manual_seed(0)
model = timm.create_model("resnet10t", num_classes=4)
loader = create_loader(
    FakeData(16, (3, 32, 32), 4),
    (3, 32, 32),
    4,
    is_training=True,
    use_prefetcher=True,
    device=torch.device("cpu"),
    num_workers=1,
    persistent_workers=False,
)
optimizer = create_optimizer_v2(model, opt="sgd", lr=0.1, momentum=0.9)
scheduler = CosineLRScheduler(optimizer, t_initial=4)
for epoch in range(2):
    model.train()
    for inputs, labels in loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
    scheduler.step(epoch)
    model.eval()
    with torch.inference_mode():
        for inputs, _labels in loader:
            model(inputs)
tell(model)
