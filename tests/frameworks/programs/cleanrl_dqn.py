"""CleanRL's DQN: an action from the network in each step of the environment, now and then a training step."""

from __future__ import annotations

import gymnasium
import numpy
import torch
from outcome import tell
from torch import Tensor, nn, optim


class QNetwork(nn.Module):
    """Observation to values."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))

    def forward(self, x: Tensor) -> Tensor:
        """Return a value for each action."""
        return self.network(x)


torch.manual_seed(0)
environment = gymnasium.make("CartPole-v1")
q_network, target_network = QNetwork(), QNetwork()
target_network.load_state_dict(q_network.state_dict())
optimizer = optim.Adam(q_network.parameters())
observation, _ = environment.reset(seed=0)
seen = []
for number in range(80):
    action = int(torch.argmax(q_network(torch.Tensor(observation))))
    following, reward, ended, _, _ = environment.step(action)
    seen.append((observation, action, following, reward, ended))
    observation = environment.reset(seed=number)[0] if ended else following
    if number >= 16 and number % 4 == 0:
        rows = [seen[place] for place in torch.randint(0, len(seen), (8,)).tolist()]
        observations, actions, nexts, rewards, ends = map(numpy.array, zip(*rows, strict=True))
        with torch.no_grad():
            best = target_network(torch.Tensor(nexts)).max(dim=1).values
            target = torch.Tensor(rewards) + 0.99 * best * (1 - torch.Tensor(ends))
        values = q_network(torch.Tensor(observations)).gather(1, torch.tensor(actions)[:, None])
        loss = nn.functional.mse_loss(target, values.squeeze())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
tell(q_network)
