"""Stable-Baselines3's DQN: a target network beside the one that is trained."""

from __future__ import annotations

import torch
from outcome import tell
from stable_baselines3 import DQN

torch.set_num_threads(1)
agent = DQN("MlpPolicy", "CartPole-v1", learning_starts=20, train_freq=4, seed=0, device="cpu")
agent.learn(60)
tell(agent.policy)
