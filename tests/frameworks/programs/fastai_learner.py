"""fastai: an optimizer class of its own."""

from __future__ import annotations

import torch
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from outcome import tell
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
data = TensorDataset(torch.randn(24, 8), torch.randint(0, 4, (24,)))
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
loaders = DataLoaders(DataLoader(data, batch_size=4), DataLoader(data, batch_size=12))
learner = Learner(loaders, model, loss_func=nn.CrossEntropyLoss())
with learner.no_logging():
    learner.fit(3, lr=0.01)
tell(model, steps=18)
