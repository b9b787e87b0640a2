"""PyTorch Geometric: two layers of graph convolution, a test after each epoch."""

from __future__ import annotations

import torch
from outcome import tell
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv


class GCN(nn.Module):
    """The one of its introduction."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = GCNConv(8, 16)
        self.conv2 = GCNConv(16, 4)

    def forward(self, data: Data) -> Tensor:
        """Return the logarithms of the classes' probabilities."""
        x = nn.functional.relu(self.conv1(data.x, data.edge_index))
        return nn.functional.log_softmax(self.conv2(x, data.edge_index), dim=1)


torch.manual_seed(0)
graph = Data(x=torch.randn(30, 8), edge_index=torch.randint(0, 30, (2, 90)))
labels = torch.randint(0, 4, (30,))
model = GCN()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
for _ in range(6):
    model.train()
    optimizer.zero_grad()
    nn.functional.nll_loss(model(graph), labels).backward()
    optimizer.step()
    model.eval()
    model(graph).argmax(dim=1)  # as its introduction does: not under `no_grad`
tell(model)
