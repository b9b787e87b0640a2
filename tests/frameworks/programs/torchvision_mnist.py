"""PyTorch's MNIST example on made-up pictures: transforms are modules, the test is a pass of its own."""

from __future__ import annotations

import torch
from outcome import tell
from torch import Tensor, nn, optim
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader
from torchvision.datasets import FakeData
from torchvision.transforms import v2


class Net(nn.Module):
    """The one of the example, smaller."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, 1)
        self.conv2 = nn.Conv2d(4, 8, 3, 1)
        self.dropout1 = nn.Dropout(0.25)
        self.fc1 = nn.Linear(1152, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logarithms of the classes' probabilities."""
        x = torch.relu(self.conv2(torch.relu(self.conv1(x))))
        x = nn.functional.max_pool2d(x, 2)
        return nn.functional.log_softmax(self.fc1(torch.flatten(self.dropout1(x), 1)), dim=1)


torch.manual_seed(1)
transform = v2.Compose(
    [
        v2.Grayscale(),
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize((0.13,), (0.31,)),
    ]
)
train = DataLoader(FakeData(40, (3, 28, 28), 10, transform), batch_size=4, shuffle=True)
test = DataLoader(FakeData(20, (3, 28, 28), 10, transform), batch_size=10)
model = Net()
optimizer = optim.Adadelta(model.parameters(), lr=1.0)
scheduler = StepLR(optimizer, step_size=1, gamma=0.7)
for _ in range(2):
    model.train()
    for data, target in train:
        optimizer.zero_grad()
        nn.functional.nll_loss(model(data), target).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        for data, _target in test:
            model(data)
    scheduler.step()
tell(model)
