"""Stable-Baselines3's PPO: rollouts, then epochs over them."""

from __future__ import annotations

import torch
from outcome import tell
from stable_baselines3 import PPO

torch.set_num_threads(1)
agent = PPO("MlpPolicy", "CartPole-v1", n_steps=64, batch_size=32, n_epochs=2, seed=0, device="cpu")
agent.learn(128)
tell(agent.policy)
