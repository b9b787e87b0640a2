"""The frameworks that are tried, and what each one's run holds."""

from __future__ import annotations

from typing import Final

from tests.frameworks.jobs import Job

JOBS: Final = (
    Job("nanogpt", "nanoGPT's loop", "transformers", evaluations=(3, 3)),
    Job("word_language_model", "PyTorch's word language model", "torch", warns=True),
    Job("torchvision_mnist", "PyTorch's MNIST, torchvision", "torchvision", evaluations=(2, 2)),
    Job("transformers_trainer", "Transformers' Trainer", "transformers", evaluations=(1, 1)),
    Job("trl_sft", "TRL, SFT", "trl"),
    Job("trl_dpo", "TRL, DPO", "trl"),
    Job("trl_grpo", "TRL, GRPO", "trl", evaluations=(8, 8, 8, 8)),
    Job("peft_lora", "PEFT, LoRA", "peft"),
    Job("accelerate_loop", "Accelerate", "accelerate", evaluations=(2, 2)),
    Job("lightning_automatic", "Lightning, automatic", "lightning", evaluations=(4, 8, 8)),
    Job("lightning_manual", "Lightning, manual", "lightning", evaluations=(4, 8, 8)),
    Job("lightning_data_parallel", "Lightning, DDP", "lightning", evaluations=(2, 2, 2)),
    Job("timm_loop", "timm", "timm", evaluations=(4, 4)),
    Job("sentence_transformers_fit", "sentence-transformers", "sentence-transformers"),
    Job("ultralytics_classify", "Ultralytics", "ultralytics", evaluations=()),
    Job("sb3_ppo", "Stable-Baselines3, PPO", "stable-baselines3", evaluations=(67, 67)),
    Job("sb3_dqn", "Stable-Baselines3, DQN", "stable-baselines3", evaluations=()),
    Job("cleanrl_dqn", "CleanRL's DQN", "torch", evaluations=(17, *(4,) * 15, 3)),
    Job("skorch_classifier", "skorch", "skorch", evaluations=(2, 2)),
    Job("ignite_engines", "ignite", "pytorch-ignite", evaluations=(6, 6)),
    Job("fastai_learner", "fastai", "fastai", evaluations=(2, 2, 2), warns=True),
    Job("pyg_nodes", "PyTorch Geometric", "torch-geometric", evaluations=(1,) * 6),
    Job("ray_train", "Ray Train", "ray"),
    Job("fsdp2", "FSDP2", "torch", ranks=2),
    Job("pipelining", "torch's pipelining", "torch", ranks=2),
)
