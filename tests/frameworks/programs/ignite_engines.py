"""ignite's trainer with an evaluator after each epoch."""

from __future__ import annotations

import torch
from ignite.engine import Events, create_supervised_evaluator, create_supervised_trainer
from outcome import tell
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
data = TensorDataset(torch.randn(24, 8), torch.randint(0, 4, (24,)))
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
trainer = create_supervised_trainer(model, optimizer, nn.CrossEntropyLoss())
evaluator = create_supervised_evaluator(model)
loader = DataLoader(data, batch_size=4)
trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda _: evaluator.run(loader))
trainer.run(loader, max_epochs=2)
tell(model)
