"""PyTorch's word language model: a recurrent state carried over batches, updates by hand, no optimizer."""

from __future__ import annotations

import torch
from outcome import tell
from torch import Tensor, nn


class RNNModel(nn.Module):
    """Encoder, recurrent cells, decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Embedding(30, 8)
        self.rnn = nn.LSTM(8, 8, 2, dropout=0.2)
        self.decoder = nn.Linear(8, 30)

    def forward(
        self, words: Tensor, state: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return the logits and the next state."""
        output, state = self.rnn(self.encoder(words), state)
        return self.decoder(output), state


torch.manual_seed(0)
model = RNNModel()
criterion = nn.CrossEntropyLoss()
state = (torch.zeros(2, 4, 8), torch.zeros(2, 4, 8))
steps = 18
for _ in range(steps):
    words = torch.randint(0, 30, (6, 4))
    model.zero_grad()
    state = (state[0].detach(), state[1].detach())
    output, state = model(words[:-1], state)
    criterion(output.view(-1, 30), words[1:].view(-1)).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 0.25)
    for parameter in model.parameters():
        parameter.data.add_(parameter.grad, alpha=-20 / 100)
tell(model, steps=steps)
